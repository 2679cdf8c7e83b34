"""Means with intervals over examples. All are resampled with the same draws, so that differences are paired.

M examples, R bootstrap draws, K bins of confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.probe.predictions import expected_calibration_error

Array = npt.NDArray[np.float64]
Row = Mapping[str, Any]
Figure = dict[str, float]

DRAWS = 2000
CONFIDENCE = 0.95

# Keys of a row that identify the example.
_LABELS = {"split", "document", "tokens", "length", "bins"}
# Means over a document's tokens, for which a mean over all tokens makes sense, too.
_OF_TOKENS = {
    *("loss", "curvature", "token_slope", "token_curvature", "logit_slope", "logit_curvature", "symmetric_kl", "flips"),
    *("entropy", "accuracy", "confidence"),
}


def figures(rows: Sequence[Row], prefix: str) -> dict[str, Figure]:
    """A summary for each measure of the rows, named prefix/KEY; rows without a measure are ignored for it."""
    found: dict[str, Figure] = {}
    for key in dict.fromkeys(key for row in rows for key in row if key not in _LABELS):
        having = [row for row in rows if key in row]
        weights = [row["tokens"] for row in having] if key.partition("/")[0] in _OF_TOKENS else None
        found[f"{prefix}/{key}"] = mean_figure([row[key] for row in having], weights)
    if rows and "bins" in rows[0]:
        found[f"{prefix}/ece"] = calibration_figure([row["bins"] for row in rows])
    return found


def mean_figure(values: Sequence[float], tokens: Sequence[int] | None = None) -> Figure:
    """Mean over examples with a percentile interval; `per_token` is the mean weighted by tokens.

    Returns:
        mean, low, high, n; per_token, per_token_low, per_token_high if tokens are given. No bounds for n = 1.
    """
    values_M = np.asarray(values, dtype=np.float64)
    share_RM = _resamples(len(values_M))
    figure = {"mean": float(values_M.mean()), **_bounds(share_RM @ values_M), "n": len(values_M)}
    if tokens is not None:
        tokens_M = np.asarray(tokens, dtype=np.float64)
        figure["per_token"] = float((values_M * tokens_M).sum() / tokens_M.sum())
        bounds = _bounds(share_RM @ (values_M * tokens_M) / (share_RM @ tokens_M))
        figure |= {f"per_token_{side}": value for side, value in bounds.items()}
    return figure


def ratio_figure(above: Sequence[float] | Array, below: Sequence[float] | Array) -> Figure:
    """Mean of one over mean of the other, resampled together; with `below` all 1 a mean of any sign.

    Returns:
        mean, low, high, n. Without bounds for n = 1.
    """
    above_M, below_M = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    share_RM = _resamples(len(above_M))
    bounds = _bounds((share_RM @ above_M) / (share_RM @ below_M))
    return {"mean": float(above_M.mean() / below_M.mean()), **bounds, "n": len(above_M)}


def gap_figure(heldout: Sequence[Row], train: Sequence[Row]) -> Figure:
    """Loss per token of the held-out minus that of the training examples, each resampled independently."""
    estimates, means = [], []
    for seed, rows in enumerate((heldout, train)):
        tokens_M = np.array([row["tokens"] for row in rows], dtype=np.float64)
        sums_M = tokens_M * np.array([row["loss"] for row in rows])
        share_RM = _resamples(len(rows), seed)
        estimates.append(share_RM @ sums_M / (share_RM @ tokens_M))
        means.append(sums_M.sum() / tokens_M.sum())
    bounds = _bounds(estimates[0] - estimates[1])
    return {"mean": float(means[0] - means[1]), **bounds, "n": min(len(heldout), len(train))}


def calibration_figure(bins: Sequence[Sequence[Sequence[float]]]) -> Figure:
    """Expected calibration error over all tokens; the interval resamples examples.

    Absolute values bias the error of a finite sample upwards, and that of a resample even more, so the draws are
    shifted down until their mean is the estimate. The estimate keeps its own bias; docs/probes.md gives its size.
    """
    bins_MK3 = np.asarray(bins, dtype=np.float64)
    drawn_RK3 = np.tensordot(_resamples(len(bins_MK3)), bins_MK3, axes=1)
    error = float(expected_calibration_error(bins_MK3.sum(0)))
    errors_R = expected_calibration_error(drawn_RK3)
    centred_R = np.maximum(errors_R - errors_R.mean() + error, 0) if len(errors_R) else errors_R
    return {"mean": error, **_bounds(centred_R), "n": len(bins_MK3)}


def flat(found: Mapping[str, Figure]) -> dict[str, float]:
    """For summary.json: NAME is the mean, next to NAME/low, NAME/high and, if it exists, NAME/per_token."""
    kept: dict[str, float] = {}
    for name, figure in found.items():
        named = {name: figure["mean"], **{f"{name}/{key}": figure.get(key) for key in ("low", "high", "per_token")}}
        kept |= {key: float(value) for key, value in named.items() if value is not None and math.isfinite(value)}
    return kept


def _bounds(estimates_R: Array) -> Figure:
    """low and high; neither if all draws are the same single example."""
    if not len(estimates_R):
        return {}
    low, high = np.quantile(estimates_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"low": float(low), "high": float(high)}


@cache
def _resamples(count: int, seed: int = 0) -> Array:
    """(R, M) shares of the examples in each bootstrap draw; none for a single example."""
    if count < 2:
        return np.empty((0, count))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS) / count
