"""Timed comparisons. Every figure is a median of repeats measured in the run that prints it; none is part of the tests."""
