"""Recipes as data, and the experiments made of them."""
