"""Presets of options, recipe files, and the words of `hadamem train`."""
