"""Tests of differences: p-values, equivalence, corrections over a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np

from analysis.stats import student_t
from analysis.stats.clusters import Array
from analysis.stats.estimate import Estimate
from analysis.stats.estimates import two_way_error, with_error

_NAN = float("nan")
# A scatter of seeds that is larger than that of the others with less than this probability is of another size. Not 5%:
# to pool what differs costs false alarms, not to pool what is alike costs some power.
_ALIKE = 0.1


def p_value(estimate: Estimate) -> float:
    """Two-sided p-value of the hypothesis that the mean is zero; NaN without a standard error, or without any spread.

    In the far tail, which matters for Holm's correction, few seeds that agree by chance are misleading: see
    `with_shared_scatter`. False alarms by simulation: benchmarks/results, docs/analysis.md.
    """
    if np.isnan(estimate.error):
        return _NAN
    if estimate.error == 0:
        return 1.0 if estimate.mean == 0 else _NAN
    return student_t.p_value(estimate.mean / estimate.error, estimate.freedom)


def holm(p_values: Array) -> Array:
    """Holm's step-down adjustment; NaN (no test was made) stays NaN and does not count.

    Source: Holm 1979. The probability of any false alarm in the table stays below the level of a single test.
    """
    adjusted = np.full(len(p_values), _NAN)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def equivalence_p_value(estimate: Estimate, margin: float) -> float:
    """p-value of two one-sided tests: small if the mean is shown to lie between -margin and margin.

    The larger of the two one-sided p-values (Schuirmann 1987). NaN without a standard error, or without any spread.
    """
    if np.isnan(estimate.error) or estimate.error == 0:
        return _NAN
    return student_t.below(-(margin - abs(estimate.mean)) / estimate.error, estimate.freedom)


def with_shared_scatter(estimates: Sequence[Estimate], controls: Sequence[Hashable] = ()) -> list[Estimate]:
    """Differences for testing, each with at least the average scatter of seeds of all with the same control.

    Two or three seeds that agree by chance look as if seeds did not matter, and among many comparisons some will. The
    variance component between seeds is averaged over the comparisons (with several seeds), and replaces smaller ones
    and those of a single seed. Half of each difference is the shared baseline, so n comparisons count as (n + 1) / 2 in
    its degrees of freedom; simulated in docs/analysis.md. Differences
    without instructions are left as they are: their t test is exact. Intervals are not changed.

    Args:
        estimates: differences.
        controls: the control of each difference. Differences to other controls share nothing: their seeds may scatter
            more. None: all have the same control.
    """
    return _within(estimates, list(controls) or [None] * len(estimates), _shared)


def with_pooled_scatter(estimates: Sequence[Estimate], kinds: Sequence[Hashable]) -> list[Estimate]:
    """Differences of one kind, each with the average scatter of seeds of all: for those that should scatter alike.

    As `with_shared_scatter`, but the average replaces larger components, too, and the interval follows: what an
    analysis of variance does with its error. Three seeds alone say little about their scatter; several noises at the
    same strengths say more. A difference that scatters more than all others of its kind (F test at 10%) keeps its own.

    Args:
        estimates: differences to the same control.
        kinds: what must be the same for differences to scatter alike, such as the strengths of the noise.
    """
    return _within(estimates, kinds, _pooled)


def _within(
    estimates: Sequence[Estimate], keys: Sequence[Hashable], change: Callable[[Sequence[Estimate]], list[Estimate]]
) -> list[Estimate]:
    """Estimates with the same key, changed together; in their order."""
    found = list(estimates)
    for key in dict.fromkeys(keys):
        places = [place for place, each in enumerate(keys) if each == key]
        for place, changed in zip(places, change([estimates[place] for place in places]), strict=True):
            found[place] = changed
    return found


def _shared(estimates: Sequence[Estimate]) -> list[Estimate]:
    several = _with_seeds(estimates)
    return [_with_scatter(each, *_between_seeds(several)) for each in estimates] if several else list(estimates)


def _pooled(estimates: Sequence[Estimate]) -> list[Estimate]:
    several = _with_seeds(estimates)
    if len(several) < 2:
        return list(estimates)
    more = [each for each in several if _scatters_more(each, [other for other in several if other is not each])]
    shared = _between_seeds(several)
    return [each if each in more else _with_scatter(each, *shared, pooled=True) for each in estimates]


def _with_seeds(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Those that show how much seeds scatter."""
    return [each for each in estimates if each.runs > 1 and each.error > 0 and not np.isnan(each.squares[0])]


def _between_seeds(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The mean variance component between seeds of differences to one control, and its degrees of freedom."""
    freedoms = [each.runs - 1 for each in estimates]
    between = [(each.squares[0] - each.squares[2]) / each.units for each in estimates]
    return float(np.average(between, weights=freedoms)), float(np.mean(freedoms)) * (len(estimates) + 1) / 2


def _scatters_more(estimate: Estimate, others: Sequence[Estimate]) -> bool:
    from scipy.special import fdtrc

    if not others:
        return False
    freedoms = [each.runs - 1 for each in others]
    theirs = float(np.average([each.squares[0] for each in others], weights=freedoms))
    below = float(np.mean(freedoms)) * (len(others) + 1) / 2
    return not theirs or fdtrc(estimate.runs - 1, below, estimate.squares[0] / theirs) < _ALIKE


def _with_scatter(estimate: Estimate, shared: float, freedom: float, pooled: bool = False) -> Estimate:
    """With this component between seeds in the place of a smaller one; pooled: of any, with the interval."""
    seeds, items, rest = estimate.squares
    s, i = estimate.runs, estimate.units
    if np.isnan(items) or not estimate.error:
        return estimate
    if s == 1:
        shared = max(0.0, shared)
        error = float(np.sqrt(items / i + shared))
        below = (items / i) ** 2 / estimate.freedom_of_items + shared**2 / freedom
        return replace(estimate, error=error, freedom=error**4 / below)
    least = max(0.0, i * shared + rest)
    if seeds >= least and not pooled:
        return estimate
    error, freedom = two_way_error((least, items, rest), (s, i), freedom, estimate.freedom_of_items)
    if not pooled:
        return replace(estimate, error=error, freedom=freedom)
    return with_error(replace(estimate, squares=(least, items, rest)), error, freedom)
