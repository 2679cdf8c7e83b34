"""Runs from folders, W&B logs and the W&B API, as frames."""
