"""What a study can find: the smallest effect it would detect, and the number of seeds it would need."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from analysis.stats import student_t
from analysis.stats.estimate import Estimate
from analysis.stats.estimates import LEVEL

_NAN = float("nan")
_POWER = 0.8
# Nodes of the numerical integral over an estimated standard error, and halvings of the bracket around the solution.
_NODES, _HALVINGS = 48, 32
_MOST_SEEDS = 200


def minimum_detectable_effect(estimate: Estimate, power: float = _POWER, level: float = LEVEL) -> float:
    """The true difference that such a study detects with probability `power`, in the unit of the mean.

    Found: a two-sided t test at `level`. The power is that of the noncentral t, averaged over what this study's
    standard error, itself estimated from few seeds, may be: see `detectable_factor`. A null result says nothing
    about smaller differences. NaN without a standard error.
    """
    if np.isnan(estimate.error) or estimate.error == 0:
        return _NAN
    return estimate.error * detectable_factor(round(estimate.freedom, 2), power, level)


@lru_cache(maxsize=4096)
def detectable_factor(freedom: float, power: float = _POWER, level: float = LEVEL) -> float:
    """The true difference, in estimated standard errors, that is detected with probability `power`.

    A study with true standard error 1 estimates it as s_1 and names factor * s_1; a repetition estimates s_2 and finds
    this difference where |Z + factor * s_1| > t * s_2. Z is normal, s^2 chi-squared over `freedom`; integrated over
    both. At 80% and 5%: 39 for one degree of freedom, 8.8 for 2, 4.7 for 4, 3.2 for 15; the usual sum of two quantiles
    gives 14, 5.4, 3.7 and 3.0.
    """
    from scipy.special import gammaincinv, ndtr

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    errors = np.sqrt(2 * gammaincinv(freedom / 2, (nodes + 1) / 2) / freedom)
    critical = student_t.quantile(1 - level / 2, freedom) * errors
    weight = np.outer(weights, weights) / 4

    def found(factor: float) -> float:
        shifts = factor * errors[:, None]
        return float((weight * (ndtr(shifts - critical) + ndtr(-shifts - critical))).sum())

    low, high = 0.0, 10.0
    while found(high) < power:
        high *= 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high


def seeds_needed(estimate: Estimate, margin: float, power: float = _POWER, level: float = LEVEL) -> int | None:
    """Seeds that would decide with probability `power`.

    If the measured difference is within `margin`: seeds that show an absent effect to be within it, by two one-sided
    tests at `level`. If it is larger: those that show a difference of the measured size, by a two-sided test. From the
    scatter of this study; like any such planning, a rough estimate. None if no number of seeds (up to 200) suffices, so
    that more instructions are needed, or if the scatter is NaN.
    """
    if np.isnan(estimate.error) or estimate.error == 0 or estimate.runs < 2:
        return None
    by_seed, by_item = _components(estimate)
    is_within = abs(estimate.mean) <= margin
    test, chance = (1 - level, (1 + power) / 2) if is_within else (1 - level / 2, power)
    for seeds in range(3, _MOST_SEEDS + 1):
        variance = by_seed / seeds + by_item
        below = (by_seed / seeds) ** 2 / (seeds - 1)
        below += by_item**2 / estimate.freedom_of_items if by_item else 0.0
        freedom = variance**2 / below
        quantiles = student_t.quantile(test, freedom) + student_t.quantile(chance, freedom)
        if quantiles * np.sqrt(variance) <= max(margin, abs(estimate.mean)):
            return seeds
    return None


def _components(estimate: Estimate) -> tuple[float, float]:
    """Variance of the mean times the number of seeds, and the part that more seeds do not reduce."""
    seeds, items, rest = estimate.squares
    if np.isnan(seeds):
        return estimate.error**2 * estimate.runs, 0.0
    between_items = max(0.0, items - rest) / estimate.runs / estimate.units
    return max(estimate.error**2 - between_items, seeds / estimate.units / estimate.runs) * estimate.runs, between_items
