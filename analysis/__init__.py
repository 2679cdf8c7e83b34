"""Read runs back, from disk or Weights & Biases, and turn them into tables with honest uncertainty."""

from analysis.checklist import checklist
from analysis.claims import claims
from analysis.insight import flatness, length_gain
from analysis.runs import Runs, load_runs
from analysis.show import Shown, custom, draw_figures, table

__all__ = [
    "Runs", "Shown", "checklist", "claims", "custom", "draw_figures", "flatness", "length_gain", "load_runs", "table",
]  # fmt: skip
