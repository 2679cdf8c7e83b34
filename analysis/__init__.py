"""Read runs back, from disk or Weights & Biases, and turn them into tables with honest uncertainty."""

from analysis.notebook import Shown, checklist, claims, custom, draw_figures, flatness, length_gain, table
from analysis.sources.runs import Runs, load_runs

__all__ = [
    "Runs", "Shown", "checklist", "claims", "custom", "draw_figures", "flatness", "length_gain", "load_runs", "table",
]  # fmt: skip
