"""Grids of runs with a question."""
