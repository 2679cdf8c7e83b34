"""Run-level statistics as pure functions of arrays: means over a few seeds and many instructions.

Legend of shape suffixes: S seeds (the runs of one cell), I instructions, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from analysis.stats import student_t
from analysis.stats.clusters import Array, Labels, by_cluster
from analysis.stats.estimate import Estimate

_NAN = float("nan")
# Probability of a false alarm: for a single test, and for a whole table after Holm's correction.
LEVEL = 0.05


def mean_over_seeds(values_S: Array, confidence: float = 0.95) -> Estimate:
    """Mean over runs with Student's t interval; one run has a mean and no interval."""
    n, mean = len(values_S), float(np.mean(values_S))
    if n < 2:
        return Estimate(mean, _NAN, _NAN, _NAN, n)
    error = float(np.std(values_S, ddof=1) / np.sqrt(n)) if np.ptp(values_S) else 0.0
    return _around(mean, error, n - 1, confidence, (n, 0))


def mean_over_seeds_and_instructions(
    values_SI: Array, confidence: float = 0.95, clusters_I: Labels | None = None
) -> Estimate:
    """Mean where every seed answers the same instructions, with a t interval that counts both as samples.

    Two-way random effects without replication: the variance of the mean is (MS_seeds + MS_instructions - MS_rest)
    / (S I), its degrees of freedom are Satterthwaite's, at least those of the smaller factor. It is never less than the
    larger of the two one-way variances, so that a negative component cannot narrow the interval. With one seed the
    interval is that run's, over instructions only.

    Args:
        values_SI: one value for each seed and instruction.
        confidence: confidence level of the interval.
        clusters_I: the cluster of each instruction (its task family or source). Two or more clusters replace the
            instructions as units: see `analysis.stats.clusters.by_cluster`.

    Returns:
        The mean over all values. Coverage by simulation: benchmarks/results, docs/analysis.md.
    """
    i, mean = values_SI.shape[1], float(values_SI.mean())
    clusters = 0 if clusters_I is None else len(np.unique(clusters_I))
    if clusters_I is not None and 1 < clusters < i:
        values_SG, freedom = by_cluster(values_SI, clusters_I)
        found = _two_way(values_SG, freedom, confidence)
        return replace(moved_to(found, mean), instructions=i, clusters=clusters)
    return replace(_two_way(values_SI, i - 1, confidence), instructions=i)


def _two_way(values_SI: Array, item_freedom: float, confidence: float) -> Estimate:
    """The estimate of a table of seeds by independent items; item_freedom: of the items' mean square."""
    s, i = values_SI.shape
    if s < 2:
        return _one_way(values_SI[0], item_freedom, confidence)
    if i < 2:
        return mean_over_seeds(values_SI[:, 0], confidence)
    if not np.ptp(values_SI):
        return Estimate(float(values_SI.mean()), 0.0, _NAN, _NAN, s, i, float(s - 1))
    seeds, items, rest = (float(square) for square in _mean_squares(values_SI))
    error, freedom = two_way_error((seeds, items, rest), (s, i), s - 1, item_freedom)
    found = _around(float(values_SI.mean()), error, freedom, confidence, (s, i))
    return replace(found, squares=(seeds, items, rest), item_freedom=float(item_freedom))


def _one_way(values_I: Array, freedom: float, confidence: float) -> Estimate:
    """One seed: over its items alone."""
    i, mean = len(values_I), float(values_I.mean())
    if i < 2:
        return Estimate(mean, _NAN, _NAN, _NAN, 1, i)
    error = float(np.std(values_I, ddof=1) / np.sqrt(i)) if np.ptp(values_I) else 0.0
    found = _around(mean, error, freedom, confidence, (1, i))
    return replace(found, squares=(_NAN, error**2 * i, _NAN), item_freedom=float(freedom))


def two_way_error(
    squares: tuple[float, float, float], counts: tuple[int, int], of_seeds: float, of_items: float
) -> tuple[float, float]:
    """Standard error of a mean and Satterthwaite's degrees of freedom.

    of_seeds, of_items: degrees of freedom of the mean squares of seeds and items.
    """
    (seeds, items, rest), (s, i) = squares, counts
    combined = max(seeds + items - rest, seeds, items)
    freedoms = (of_seeds, of_items, (s - 1) * of_items)
    below = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return float(np.sqrt(combined / (s * i))), max(combined**2 / below, min(s - 1, of_items))


def _mean_squares(values_SI: Array) -> Array:
    """Mean squares of seeds, instructions and the rest, in the two-way table without replication."""
    s, i = values_SI.shape
    mean = values_SI.mean()
    seeds_S, items_I = values_SI.mean(axis=1) - mean, values_SI.mean(axis=0) - mean
    rest_SI = values_SI - mean - seeds_S[:, None] - items_I[None, :]
    sums = np.array([i * (seeds_S**2).sum(), s * (items_I**2).sum(), (rest_SI**2).sum()])
    return sums / np.array([s - 1, i - 1, (s - 1) * (i - 1)])


def hierarchical_bootstrap(
    values_SI: Array,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
    clusters_I: Labels | None = None,
) -> Estimate:
    """Mean with a percentile interval from resampling seeds and, independently, instructions or their clusters.

    An instruction is resampled for all seeds at once, because every run got the same questions. Too narrow with few
    seeds or clusters (benchmarks/results). Tables show it next to the t interval on request (`TableLayout.bootstrap`),
    never instead.
    """
    if not np.ptp(values_SI):
        return Estimate(float(values_SI.mean()), 0.0, _NAN, _NAN, *values_SI.shape)
    if clusters_I is not None and 1 < len(np.unique(clusters_I)) < values_SI.shape[1]:
        means_B = _cluster_bootstrap_means(values_SI, clusters_I, draws, seed)
    else:
        means_B = _bootstrap_means(values_SI, draws, seed)
    return _percentiles(float(values_SI.mean()), means_B, confidence, values_SI.shape)


def relative_change(
    ours_SI: Array, theirs_SI: Array, confidence: float = 0.95, clusters_I: Labels | None = None
) -> Estimate:
    """Change of the mean in percent of the baseline's mean: 64.69 to 69.04 is +6.7%, though +4.35 points.

    Row s and column i of both arrays belong to the same seed and instruction. The t interval is that of the linearised
    logarithm of the ratio: each pair contributes ours / mean(ours) - theirs / mean(theirs), and seeds and instructions
    are both samples. Unlike a percentile bootstrap it keeps its coverage with few seeds. NaN without
    wins on both sides.
    """
    ours, theirs = float(ours_SI.mean()), float(theirs_SI.mean())
    s, i = ours_SI.shape
    if ours <= 0 or theirs <= 0:
        return Estimate(_NAN if theirs <= 0 else -100.0, _NAN, _NAN, _NAN, s, i)
    logs = mean_over_seeds_and_instructions(ours_SI / ours - theirs_SI / theirs, confidence, clusters_I)
    mean, low, high = (100 * (ours / theirs * float(np.exp(each)) - 1) for each in (0.0, logs.low, logs.high))
    return Estimate(mean, _NAN, low, high, s, i)


def ratio_over_seeds(ours_S: Array, theirs_S: Array, confidence: float = 0.95) -> Estimate:
    """Geometric mean of the runs' ratios, as change in percent; t interval on the logarithms. For positive numbers."""
    if (ours_S <= 0).any() or (theirs_S <= 0).any():
        return Estimate(_NAN, _NAN, _NAN, _NAN, len(ours_S))
    logs = mean_over_seeds(np.log(ours_S / theirs_S), confidence)
    mean, low, high = (100 * float(np.expm1(each)) for each in (logs.mean, logs.low, logs.high))
    return Estimate(mean, _NAN, low, high, logs.runs)


def moved_to(estimate: Estimate, mean: float) -> Estimate:
    """The same interval around another mean."""
    by = mean - estimate.mean
    return replace(estimate, mean=mean, low=estimate.low + by, high=estimate.high + by)


def with_error(estimate: Estimate, error: float, freedom: float, confidence: float = 0.95) -> Estimate:
    """The same mean with another standard error, and the interval that it makes."""
    half = student_t.quantile(0.5 + confidence / 2, freedom) * error
    bounds = (estimate.mean - half, estimate.mean + half)
    return replace(estimate, error=error, freedom=freedom, low=bounds[0], high=bounds[1])


def _around(mean: float, error: float, freedom: float, confidence: float, counts: tuple[int, int]) -> Estimate:
    if error == 0:
        return Estimate(mean, 0.0, _NAN, _NAN, *counts, freedom)
    half = student_t.quantile(0.5 + confidence / 2, freedom) * error
    return Estimate(mean, error, mean - half, mean + half, *counts, freedom)


def _percentiles(mean: float, means_B: Array, confidence: float, shape: tuple[int, ...]) -> Estimate:
    low, high = np.quantile(means_B, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(mean, float(means_B.std(ddof=1)), float(low), float(high), shape[0], shape[1])


def _cluster_bootstrap_means(values_SI: Array, clusters_I: Labels, draws: int, seed: int) -> Array:
    """Means in every draw (B,): a cluster is drawn with all of its instructions."""
    _, of_I = np.unique(clusters_I, return_inverse=True)
    sums_SG = np.array([np.bincount(of_I, weights=values_I) for values_I in values_SI])
    seeds_BS, shares_BG = _shares(*sums_SG.shape, draws, seed)
    sums_B = np.einsum("bs,sg,bg->b", seeds_BS, sums_SG, shares_BG, optimize=True)
    means_B: Array = sums_B / (shares_BG @ np.bincount(of_I))
    return means_B


def _bootstrap_means(values_SI: Array, draws: int, seed: int) -> Array:
    """Means in every draw (B,)."""
    seeds_BS, items_BI = _shares(*values_SI.shape, draws, seed)
    means_B: Array = np.einsum("bs,si,bi->b", seeds_BS, values_SI, items_BI, optimize=True)
    return means_B


@lru_cache(maxsize=4)
def _shares(s: int, i: int, draws: int, seed: int) -> tuple[Array, Array]:
    """Weights of seeds (B, S) and instructions (B, I) in each draw, the same for all comparisons of a table."""
    generator = np.random.default_rng(seed)
    seeds_BS = generator.multinomial(s, np.full(s, 1 / s), size=draws) / s
    return seeds_BS, generator.multinomial(i, np.full(i, 1 / i), size=draws) / i
