"""How steadily a training went: statistics of the loss and the gradient norm of every step.

S steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 50  # steps before a step that it is compared with
LEAST = 10  # of them there must be
THRESHOLD = 6.0
_TO_DEVIATION = 1.4826  # the median absolute deviation of a normal distribution times this is its standard deviation


def stability(steps: Sequence[Mapping[str, Any]], max_grad_norm: float, status: str) -> dict[str, float]:
    """Figures `stability/...` of a training.

    Args:
        steps: rows with train/loss and train/grad_norm (before clipping) of every step; None for no number.
        max_grad_norm: what gradients were clipped to.
        status: "finished" or "diverged" (loss or gradient became NaN or infinite).

    Returns:
        grad_norm_mean, grad_norm_median, grad_norm_p95, grad_norm_max; clipped_percent, of the steps whose gradient was
        longer than max_grad_norm; loss_spikes, their number (see `spikes`), and largest_z, the largest robust z-score;
        diverged, 1 or 0; steps.
    """
    losses_S = _numbers(steps, "train/loss")
    norms_S = _numbers(steps, "train/grad_norm")
    found = {"steps": float(len(steps)), "diverged": float(status == "diverged")}
    finite_S = norms_S[np.isfinite(norms_S)]
    if len(finite_S):
        found |= {
            "grad_norm_mean": finite_S.mean(),
            "grad_norm_median": np.median(finite_S),
            "grad_norm_p95": np.quantile(finite_S, 0.95),
            "grad_norm_max": finite_S.max(),
            "clipped_percent": 100 * (finite_S > max_grad_norm).mean(),
        }
    z_S = robust_z(losses_S[np.isfinite(losses_S)])
    known_S = z_S[~np.isnan(z_S)]
    if len(known_S):
        found |= {"loss_spikes": spikes(z_S), "largest_z": known_S.max()}
    return {f"stability/{name}": float(value) for name, value in found.items()}


def robust_z(losses_S: Array) -> Array:
    """z_t = (l_t - median of the window) / (1.4826 x median absolute deviation of the window), (S,).

    The window is the WINDOW steps before t; NaN where it holds fewer than LEAST, or no deviation. Medians, so that
    one spike does not hide the next; only earlier steps, so that a loss that falls cannot spike by falling.
    """
    z_S = np.full(len(losses_S), np.nan)
    for step in range(LEAST, len(losses_S)):
        before = losses_S[max(0, step - WINDOW) : step]
        middle = np.median(before)
        deviation = _TO_DEVIATION * np.median(np.abs(before - middle))
        if deviation > 0:
            z_S[step] = (losses_S[step] - middle) / deviation
    return z_S


def spikes(z_S: Array) -> int:
    """Spikes: runs of consecutive steps with z above THRESHOLD count once."""
    above_S = np.nan_to_num(z_S, nan=0.0) > THRESHOLD
    return int(above_S[:1].sum() + (above_S[1:] & ~above_S[:-1]).sum())


def _numbers(steps: Sequence[Mapping[str, Any]], key: str) -> Array:
    return np.array([np.nan if row[key] is None else row[key] for row in steps], dtype=np.float64)
