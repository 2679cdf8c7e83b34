"""Metrics of a run that are not in its summary: computed from its outputs, verdicts or history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from harness.metrics.names import LENGTH

# An answer within this factor of the reference's characters counts as similar in length.
_FACTOR = 1.25
# The papers' names for scores that lm-eval gives as fractions; in percent.
PERCENT_OF = {
    "lm_eval/arc": "probe/benchmark/arc_challenge/acc_norm",
    "lm_eval/hellaswag": "probe/benchmark/hellaswag/acc_norm",
    "lm_eval/mmlu": "probe/benchmark/mmlu/acc",
    "lm_eval/truthfulqa": "probe/benchmark/truthfulqa_mc2/acc",
}
_NAN = float("nan")


def mean_length(outputs: pd.DataFrame) -> float:
    """Mean characters of one run's outputs."""
    return float(outputs["length"].mean())


def max_grad_norm(history: pd.DataFrame) -> float:
    """The largest logged gradient norm of one run before clipping; NaN if none was logged.

    Runs that recorded stability/grad_norm_max have it from every step, logged or not.
    """
    return float(history["train/grad_norm"].max()) if "train/grad_norm" in history else _NAN


def win_rate_where(length: str, preferences: pd.DataFrame) -> float:
    """Win rate (percent) of one run's answers that are shorter, similar or longer; NaN if there are none."""
    return float(100 * preferences["model_wins"][_is(length, preferences)].mean())


def share(length: str, preferences: pd.DataFrame) -> float:
    """Percent of one run's judged answers that are shorter, similar or longer than the reference."""
    judged = preferences.dropna(subset="model_wins")
    return float(100 * _is(length, judged).mean())


def _is(length: str, preferences: pd.DataFrame) -> pd.Series:
    """Which answers are shorter, similar or longer: by more than _FACTOR in characters."""
    ours, theirs = preferences["length"], preferences["reference_length"]
    shorter, longer = ours * _FACTOR < theirs, ours > theirs * _FACTOR
    return {"shorter": shorter, "similar": ~shorter & ~longer, "longer": longer}[length]


# metric -> the frame of `Runs` from which it is computed, and a function of one run's rows of it
DERIVED: dict[str, tuple[str, Callable[[pd.DataFrame], float]]] = {
    LENGTH: ("generations", mean_length),
    "stability/grad_norm_max": ("history", max_grad_norm),
    **{
        f"length/win_rate_{each}": ("preferences", partial(win_rate_where, each))
        for each in ("shorter", "similar", "longer")
    },
    **{f"length/share_{each}": ("preferences", partial(share, each)) for each in ("shorter", "similar", "longer")},
}
