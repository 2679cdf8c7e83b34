"""Hostile input given to the real commands, and what became of each: python -m benchmarks.hostile."""
