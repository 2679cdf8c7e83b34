"""Student's t with real degrees of freedom. scipy is imported at the first use: most commands need none of it."""

from __future__ import annotations


def quantile(probability: float, freedom: float) -> float:
    """The t below which `probability` lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def below(statistic: float, freedom: float) -> float:
    """Probability of a t that is smaller."""
    from scipy.special import stdtr

    return float(stdtr(freedom, statistic))


def p_value(statistic: float, freedom: float) -> float:
    """Probability of a t at least as far from zero, both sides together."""
    return 2 * below(-abs(statistic), freedom)
