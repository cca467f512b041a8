"""Many runs: grids of tasks, memories and seeds, in processes and on clusters, and the experiments made of them."""
