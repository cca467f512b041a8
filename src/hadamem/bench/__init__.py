"""Measurements: what things cost, what memories learn. Every figure is measured in the run that prints it, every time is a
median of repeats; none is part of the tests."""
