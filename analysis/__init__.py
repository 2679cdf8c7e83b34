"""Read runs back, from disk or Weights & Biases, and turn them into tables with honest uncertainty."""

from analysis.notebook import Shown, custom, draw_figures, table
from analysis.sources.runs import Runs, load_runs
from analysis.tables.computed.alpha_and_length import flatness, length_gain
from analysis.tables.computed.checklist import checklist
from analysis.tables.computed.claims import claims

__all__ = [
    "Runs", "Shown", "checklist", "claims", "custom", "draw_figures", "flatness", "length_gain", "load_runs", "table",
]  # fmt: skip
