"""Read runs back, from disk or Weights & Biases, and turn them into tables with honest uncertainty."""

from analysis.runs import Runs, load_runs

__all__ = ["Runs", "load_runs"]
