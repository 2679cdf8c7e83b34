"""Tests of differences: p-values, equivalence, corrections over a table."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from analysis.stats import student_t
from analysis.stats.clusters import Array
from analysis.stats.estimate import Estimate
from analysis.stats.estimates import two_way_error

_NAN = float("nan")


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
    keys = list(controls) or [None] * len(estimates)
    members = {key: [place for place, each in enumerate(keys) if each == key] for key in dict.fromkeys(keys)}
    found = list(estimates)
    for places in members.values():
        for place, shared in zip(places, _shared([estimates[place] for place in places]), strict=True):
            found[place] = shared
    return found


def _shared(estimates: Sequence[Estimate]) -> list[Estimate]:
    several = [each for each in estimates if each.runs > 1 and each.error > 0 and not np.isnan(each.squares[0])]
    if not several:
        return list(estimates)
    freedoms = [each.runs - 1 for each in several]
    between = [(each.squares[0] - each.squares[2]) / each.units for each in several]
    shared = float(np.average(between, weights=freedoms))
    freedom = float(np.mean(freedoms)) * (len(several) + 1) / 2
    return [_with_scatter(each, shared, freedom) for each in estimates]


def _with_scatter(estimate: Estimate, shared: float, freedom: float) -> Estimate:
    seeds, items, rest = estimate.squares
    s, i = estimate.runs, estimate.units
    if np.isnan(items) or not estimate.error:
        return estimate
    if s == 1:
        shared = max(0.0, shared)
        error = float(np.sqrt(items / i + shared))
        below = (items / i) ** 2 / estimate.freedom_of_items + shared**2 / freedom
        return replace(estimate, error=error, freedom=error**4 / below)
    least = i * shared + rest
    if seeds >= least:
        return estimate
    error, freedom = two_way_error((least, items, rest), (s, i), freedom, estimate.freedom_of_items)
    return replace(estimate, error=error, freedom=freedom)
