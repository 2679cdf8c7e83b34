"""Run-level statistics as pure functions of arrays: what a mean over a few seeds and many instructions can say.

Legend of shape suffixes: S seeds (the runs of one cell), I instructions, B bootstrap draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.stats import student_t as student

Array = NDArray[np.float64]
_NAN = float("nan")
# Probability of a false alarm: of a single test, and of all of a table together after Holm's correction.
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean with standard error and interval; NaN where the data cannot say.

    Values without any spread have an error of 0 and no interval: nothing is known about how far they would scatter.
    runs: seeds behind it. instructions: those behind the interval, 0 if it rests on runs alone. freedom: degrees of
    freedom of the error. squares: mean squares of seeds, instructions and the rest, where there are instructions;
    those of seeds and rest are NaN for one seed.
    """

    mean: float
    error: float
    low: float
    high: float
    runs: int
    instructions: int = 0
    freedom: float = _NAN
    squares: tuple[float, float, float] = (_NAN, _NAN, _NAN)


def mean_over_seeds(values_S: Array, confidence: float = 0.95) -> Estimate:
    """Mean over runs with Student's t interval; one run has a mean and no interval."""
    n, mean = len(values_S), float(np.mean(values_S))
    if n < 2:
        return Estimate(mean, _NAN, _NAN, _NAN, n)
    error = float(np.std(values_S, ddof=1) / np.sqrt(n)) if np.ptp(values_S) else 0.0
    return _around(mean, error, n - 1, confidence, (n, 0))


def mean_over_seeds_and_instructions(values_SI: Array, confidence: float = 0.95) -> Estimate:
    """Mean where every seed answers the same instructions, with a t interval that counts both as samples.

    Two-way random effects without replication: the variance of the mean is (MS_seeds + MS_instructions - MS_rest)
    / (S I), its degrees of freedom are Satterthwaite's, at least those of the smaller factor. It is never less than the
    larger of the two one-way variances, so that a negative component cannot narrow the interval. With one seed the
    interval is that run's, over instructions only. In simulation (2 to 5 seeds, 100 instructions, seed effects from
    none to large) the 95% interval holds the truth in 90 to 98% of the cases.
    """
    s, i = values_SI.shape
    mean = float(values_SI.mean())
    if s < 2 or i < 2:
        single = mean_over_seeds(values_SI.ravel(), confidence)
        squares = (_NAN, single.error**2 * i, _NAN) if s == 1 else (_NAN, _NAN, _NAN)
        return replace(single, runs=s, instructions=i, squares=squares)
    if not np.ptp(values_SI):
        return Estimate(mean, 0.0, _NAN, _NAN, s, i, float(s - 1))
    seeds, items, rest = (float(square) for square in _mean_squares(values_SI))
    error, freedom = _two_way_error((seeds, items, rest), (s, i), s - 1)
    return replace(_around(mean, error, freedom, confidence, (s, i)), squares=(seeds, items, rest))


def _two_way_error(
    squares: tuple[float, float, float], counts: tuple[int, int], of_seeds: float
) -> tuple[float, float]:
    """Standard error of a mean and Satterthwaite's degrees of freedom; of_seeds: those of the seeds' mean square."""
    (seeds, items, rest), (s, i) = squares, counts
    combined = max(seeds + items - rest, seeds, items)
    freedoms = (of_seeds, i - 1, (s - 1) * (i - 1))
    below = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return float(np.sqrt(combined / (s * i))), max(combined**2 / below, min(s, i) - 1)


def with_shared_scatter(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Differences to one baseline, for a test: each counts at least the scatter of seeds that all have on average.

    Two or three seeds that agree by chance look as if seeds did not matter, and among many comparisons some do. The
    component of variance between seeds is averaged over the comparisons (with several seeds), and takes the place of a
    smaller one and of that which a single seed cannot show. Half of each difference is the baseline that all share, so
    that n comparisons count as (n + 1) / 2 in its degrees of freedom; simulated in docs/analysis.md. Differences
    without instructions are left as they are: their t test is exact. Intervals are not changed.
    """
    several = [each for each in estimates if each.runs > 1 and each.error > 0 and not np.isnan(each.squares[0])]
    if not several:
        return list(estimates)
    freedoms = [each.runs - 1 for each in several]
    between = [(each.squares[0] - each.squares[2]) / each.instructions for each in several]
    shared = float(np.average(between, weights=freedoms))
    freedom = float(np.mean(freedoms)) * (len(several) + 1) / 2
    return [_with_scatter(each, shared, freedom) for each in estimates]


def _with_scatter(estimate: Estimate, shared: float, freedom: float) -> Estimate:
    seeds, items, rest = estimate.squares
    s, i = estimate.runs, estimate.instructions
    if np.isnan(items) or not estimate.error:
        return estimate
    if s == 1:
        shared = max(0.0, shared)
        error = float(np.sqrt(items / i + shared))
        below = (items / i) ** 2 / (i - 1) + shared**2 / freedom
        return replace(estimate, error=error, freedom=error**4 / below)
    least = i * shared + rest
    if seeds >= least:
        return estimate
    error, freedom = _two_way_error((least, items, rest), (s, i), freedom)
    return replace(estimate, error=error, freedom=freedom)


def _mean_squares(values_SI: Array) -> Array:
    """Mean squares of seeds, instructions and the rest, in the two-way table without replication."""
    s, i = values_SI.shape
    mean = values_SI.mean()
    seeds_S, items_I = values_SI.mean(axis=1) - mean, values_SI.mean(axis=0) - mean
    rest_SI = values_SI - mean - seeds_S[:, None] - items_I[None, :]
    sums = np.array([i * (seeds_S**2).sum(), s * (items_I**2).sum(), (rest_SI**2).sum()])
    return sums / np.array([s - 1, i - 1, (s - 1) * (i - 1)])


def hierarchical_bootstrap(values_SI: Array, confidence: float = 0.95, draws: int = 4000, seed: int = 0) -> Estimate:
    """Mean with a percentile interval from resampling seeds and, independently, instructions.

    An instruction is resampled for all seeds at once: the same questions were put to every run. Too narrow for few
    seeds: in the simulation named at `mean_over_seeds_and_instructions` the 95% interval holds the truth in 62 to
    99% of the cases. It stands beside the t interval where a table asks for it (TableLayout.bootstrap), never instead.
    """
    if not np.ptp(values_SI):
        return Estimate(float(values_SI.mean()), 0.0, _NAN, _NAN, *values_SI.shape)
    means_B = _bootstrap_means(values_SI, draws, seed)
    return _percentiles(float(values_SI.mean()), means_B, confidence, values_SI.shape)


def relative_change(ours_SI: Array, theirs_SI: Array, confidence: float = 0.95) -> Estimate:
    """Change of the mean in percent of the baseline's mean: 64.69 to 69.04 is +6.7%, though +4.35 points.

    Row s and column i of both arrays belong to the same seed and instruction. The t interval is that of the logarithm
    of the ratio, linearised: each pair counts with ours / mean(ours) - theirs / mean(theirs), and seeds and
    instructions are both samples. Unlike a percentile bootstrap it keeps its coverage with few seeds. NaN without
    wins on both sides.
    """
    ours, theirs = float(ours_SI.mean()), float(theirs_SI.mean())
    s, i = ours_SI.shape
    if ours <= 0 or theirs <= 0:
        return Estimate(_NAN if theirs <= 0 else -100.0, _NAN, _NAN, _NAN, s, i)
    logs = mean_over_seeds_and_instructions(ours_SI / ours - theirs_SI / theirs, confidence)
    mean, low, high = (100 * (ours / theirs * float(np.exp(each)) - 1) for each in (0.0, logs.low, logs.high))
    return Estimate(mean, _NAN, low, high, s, i)


def ratio_over_seeds(ours_S: Array, theirs_S: Array, confidence: float = 0.95) -> Estimate:
    """Geometric mean of the runs' ratios, as change in percent; t interval on the logarithms. For positive numbers."""
    if (ours_S <= 0).any() or (theirs_S <= 0).any():
        return Estimate(_NAN, _NAN, _NAN, _NAN, len(ours_S))
    logs = mean_over_seeds(np.log(ours_S / theirs_S), confidence)
    mean, low, high = (100 * float(np.expm1(each)) for each in (logs.mean, logs.low, logs.high))
    return Estimate(mean, _NAN, low, high, logs.runs)


def p_value(estimate: Estimate) -> float:
    """Two-sided p-value of the hypothesis that the mean is zero; NaN without a standard error, or without any spread.

    Under the hypothesis it is below 0.05 in 1 to 8% of simulated comparisons with 3 or 5 seeds and 60 to 805
    instructions, and in up to 10% with 2 seeds and a large seed effect. Far in the tail, where Holm's correction looks,
    few seeds that agree by chance count for more: see `with_shared_scatter`.
    """
    if np.isnan(estimate.error):
        return _NAN
    if estimate.error == 0:
        return 1.0 if estimate.mean == 0 else _NAN
    return student.p_value(estimate.mean / estimate.error, estimate.freedom)


def holm(p_values: Array) -> Array:
    """Holm's step-down adjustment; NaN (no test was made) stays NaN and does not count.

    Source: Holm 1979. The chance of any false alarm in the table stays below the level of the single test.
    """
    adjusted = np.full(len(p_values), _NAN)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def detectable(estimate: Estimate, power: float = 0.8, level: float = LEVEL) -> float:
    """The true difference that a two-sided t test at `level` finds with probability `power`, in the mean's unit.

    The usual approximation: standard error times the sum of both quantiles. A null result says nothing about
    differences smaller than this.
    """
    if np.isnan(estimate.error) or estimate.error == 0:
        return _NAN
    quantiles = student.quantile(1 - level / 2, estimate.freedom) + student.quantile(power, estimate.freedom)
    return quantiles * estimate.error


@dataclass(frozen=True)
class AlphaChoice:
    """An alpha chosen on one half of the instructions with its mean on the other, beside the papers' way.

    on_test, on_test_mean: the alpha with the best mean over all instructions, and that mean: biased upwards, because
    the same instructions choose and report.
    """

    alpha: float
    held_out: Estimate
    on_test: float
    on_test_mean: float


def choose_alpha(values_SI: Mapping[float, Array], choosing_I: NDArray[np.bool_]) -> AlphaChoice:
    """Choose the alpha with the highest mean on the instructions marked True; the smaller alpha of equals.

    Raises:
        ValueError: there is no alpha, or a half is empty.
    """
    if not values_SI:
        raise ValueError("choose_alpha: no alpha given")
    if choosing_I.all() or not choosing_I.any():
        raise ValueError(f"choose_alpha: {int(choosing_I.sum())} of {len(choosing_I)} instructions to choose on")
    chosen = max(sorted(values_SI), key=lambda alpha: values_SI[alpha][:, choosing_I].mean())
    best = max(sorted(values_SI), key=lambda alpha: values_SI[alpha].mean())
    held_out = mean_over_seeds_and_instructions(values_SI[chosen][:, ~choosing_I])
    return AlphaChoice(chosen, held_out, best, float(values_SI[best].mean()))


def choosing_half(instructions: Sequence[str]) -> NDArray[np.bool_]:
    """True for about half of the instructions, by a hash of their text: the same half in every study."""
    digests = (hashlib.sha256(f"choose alpha:{text}".encode()).digest() for text in instructions)
    return np.array([digest[0] % 2 == 0 for digest in digests], dtype=np.bool_)


def moved_to(estimate: Estimate, mean: float) -> Estimate:
    """The same interval around another mean."""
    by = mean - estimate.mean
    return replace(estimate, mean=mean, low=estimate.low + by, high=estimate.high + by)


def _around(mean: float, error: float, freedom: float, confidence: float, counts: tuple[int, int]) -> Estimate:
    if error == 0:
        return Estimate(mean, 0.0, _NAN, _NAN, *counts, freedom)
    half = student.quantile(0.5 + confidence / 2, freedom) * error
    return Estimate(mean, error, mean - half, mean + half, *counts, freedom)


def _percentiles(mean: float, means_B: Array, confidence: float, shape: tuple[int, ...]) -> Estimate:
    low, high = np.quantile(means_B, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(mean, float(means_B.std(ddof=1)), float(low), float(high), shape[0], shape[1])


def _bootstrap_means(values_SI: Array, draws: int, seed: int) -> Array:
    """Means in every draw (B,)."""
    seeds_BS, items_BI = _shares(*values_SI.shape, draws, seed)
    means_B: Array = np.einsum("bs,si,bi->b", seeds_BS, values_SI, items_BI, optimize=True)
    return means_B


@lru_cache(maxsize=4)
def _shares(s: int, i: int, draws: int, seed: int) -> tuple[Array, Array]:
    """How much each seed (B, S) and instruction (B, I) counts in each draw: the same for all comparisons of a table."""
    generator = np.random.default_rng(seed)
    seeds_BS = generator.multinomial(s, np.full(s, 1 / s), size=draws) / s
    return seeds_BS, generator.multinomial(i, np.full(i, 1 / i), size=draws) / i
