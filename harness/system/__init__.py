"""This machine: GPUs, nodes, signals, memory, the progress line."""
