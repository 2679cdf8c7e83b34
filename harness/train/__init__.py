"""Batches to weights: the loop, its loss, its optimiser, its state."""
