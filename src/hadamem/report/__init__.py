"""Results of runs: how they are read, drawn as curves, compared with statistics, and written as pages."""
