"""Results of runs: reading them, curves, statistics, comparisons and the pages made of them."""
