"""A causal LM: find, check, load, adapt, save; its attention and matrix products."""
