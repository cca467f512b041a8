"""Measurements of speed and memory. Every number is measured in the run that prints it, and times are medians of repeats. No
measurement is part of the tests."""
