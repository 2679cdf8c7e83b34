"""Which runs may be compared, their cells, their numbers, and the published ones."""
