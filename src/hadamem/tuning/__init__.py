"""The command `hadamem tune`, which searches for a good recipe on one task."""
