"""Read runs back, from disk or Weights & Biases, and turn them into tables with honest uncertainty."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.notebook import Shown, checklist, claims, custom, draw_figures, flatness, length_gain, table
    from analysis.render.read import read_table
    from analysis.sources.runs import Runs, load_runs

__all__ = [
    "Runs", "Shown", "checklist", "claims", "custom", "draw_figures", "flatness", "length_gain", "load_runs",
    "read_table", "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import names on first use: the command line needs none of them to print its help."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    places = {"read_table": "analysis.render.read", **dict.fromkeys(("Runs", "load_runs"), "analysis.sources.runs")}
    return getattr(import_module(places.get(name, "analysis.notebook")), name)
