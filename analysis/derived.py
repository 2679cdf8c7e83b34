"""Metrics of a run that its summary does not hold: measured here from its outputs or its history."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.columns import LENGTH


def mean_length(outputs: pd.DataFrame) -> float:
    """Mean characters of one run's outputs."""
    return float(outputs["length"].mean())


def max_grad_norm(history: pd.DataFrame) -> float:
    """The largest logged gradient norm of one run, before clipping; NaN if none was logged."""
    return float(history["train/grad_norm"].max()) if "train/grad_norm" in history else float("nan")


# metric -> the frame of `Runs` that it is measured from, and a function of one run's rows of it
DERIVED: dict[str, tuple[str, Callable[[pd.DataFrame], float]]] = {
    LENGTH: ("generations", mean_length),
    "history/max_grad_norm": ("history", max_grad_norm),
}
