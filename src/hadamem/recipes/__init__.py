"""Presets of options, recipe files, and the command-line arguments of `hadamem train`."""
