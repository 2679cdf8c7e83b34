"""Uncertainty over instructions: all rows of one instruction (several seeds, both orders) stay together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_DRAWS_AT_ONCE = 500  # bootstrap draws held in memory together: 3 MB for 805 clusters


def cluster_standard_error(values: Sequence[float] | Array, clusters: Sequence[Hashable]) -> float:
    """Cluster-robust standard error of the mean, in the unit of the values.

    Args:
        values: (N,) without NaN.
        clusters: (N,) labels; rows with the same label may be dependent in any way (an instruction, say).

    Returns:
        sqrt(G/(G-1) * sum_g (sum of the residuals in cluster g)^2) / N; NaN for a single cluster. With one
        row per cluster it is the usual std(ddof=1)/sqrt(N).

    Raises:
        ValueError: the lengths differ, there are no rows, or a value is NaN.

    Source: Liang and Zeger 1986; with clusters of related questions Miller 2024, 2411.00640, without the
    factor G/(G-1).
    """
    data = _checked(values, "values")
    if np.isnan(data).any():
        raise ValueError(f"values: row {int(np.isnan(data).argmax())} is NaN")
    sums, sizes = _cluster_sums(data, clusters)
    if len(sums) < 2:
        return math.nan
    residuals = sums - sizes * data.mean()
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(residuals**2)) / len(data))


def cluster_bootstrap(
    values: Sequence[float] | Array,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean of the values with a percentile interval from resampling whole clusters.

    Args:
        values: (N,) in any unit; NaN (no verdict) is left out and counted.
        clusters: (N,) labels; None makes each row its own cluster.
        confidence: share of the interval, in (0, 1).
        draws: bootstrap samples.
        seed: of numpy's PCG64; the same seed gives the same interval.

    Returns:
        estimate, standard_error (cluster-robust, not from the bootstrap), low, high in the unit of the
        values; n, n_clusters, n_dropped, confidence. low and high are NaN for a single cluster.

    Raises:
        ValueError: no value is left, the lengths differ, or confidence or draws are out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share between 0 and 1")
    if draws < 1:
        raise ValueError(f"draws is {draws}, expected at least 1")
    data = _checked(values, "values")
    labels = list(range(len(data))) if clusters is None else list(clusters)
    if len(labels) != len(data):
        raise ValueError(f"clusters: {len(labels)} entries for {len(data)} values")
    known = [row for row, value in enumerate(data) if not math.isnan(value)]
    if len(known) == 0:
        raise ValueError(f"values: none of the {len(data)} rows has a number")
    kept, kept_labels = data[known], [labels[row] for row in known]
    sums, sizes = _cluster_sums(kept, kept_labels)
    low, high = (math.nan, math.nan) if len(sums) < 2 else _percentiles(sums, sizes, confidence, draws, seed)
    return {
        "estimate": float(kept.mean()),
        "standard_error": cluster_standard_error(kept, kept_labels),
        "low": low,
        "high": high,
        "n": len(kept),
        "n_clusters": len(sums),
        "n_dropped": len(data) - len(kept),
        "confidence": confidence,
    }


def paired_bootstrap(
    treatment: Sequence[float] | Array,
    control: Sequence[float] | Array,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean difference treatment - control over the same rows, resampling instructions.

    Args:
        treatment, control: (N,) row i of both belongs to the same instruction (and seed). A row with NaN
            on either side is left out and counted.
        clusters, confidence, draws, seed: as in `cluster_bootstrap`.

    Returns:
        The keys of `cluster_bootstrap`, for the difference.

    Raises:
        ValueError: as `cluster_bootstrap`, or the two sides differ in length.
    """
    first, second = _checked(treatment, "treatment"), _checked(control, "control")
    if len(first) != len(second):
        raise ValueError(f"control: {len(second)} entries for {len(first)} of treatment")
    return cluster_bootstrap(first - second, clusters, confidence, draws, seed)


def _checked(values: Sequence[float] | Array, name: str) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0:
        raise ValueError(f"{name}: shape {data.shape}, expected (N,) with N at least 1")
    return data


def _cluster_sums(data: Array, clusters: Sequence[Hashable]) -> tuple[Array, Array]:
    """Sum and size of each cluster, (G,) both, in order of first appearance."""
    if len(clusters) != len(data):
        raise ValueError(f"clusters: {len(clusters)} entries for {len(data)} values")
    numbers: dict[Hashable, int] = {}
    members = np.array([numbers.setdefault(label, len(numbers)) for label in clusters])
    sums = np.bincount(members, weights=data)
    sizes = np.bincount(members)
    return sums.astype(np.float64), sizes.astype(np.float64)


def _percentiles(sums: Array, sizes: Array, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        picked = generator.integers(0, len(sums), size=(count, len(sums)))
        means[start : start + count] = sums[picked].sum(axis=1) / sizes[picked].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
