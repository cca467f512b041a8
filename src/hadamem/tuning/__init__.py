"""`hadamem tune`: the search for a recipe on one task."""
