"""Many runs: grids of tasks, memories and seeds, in processes or on clusters, and experiments that consist of such runs."""
