"""Hydra plugin: the sweeper that plans before it launches."""
