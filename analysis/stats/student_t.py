"""Student's t with real degrees of freedom. scipy is imported on first use: most commands do not need it."""

from __future__ import annotations


def quantile(probability: float, freedom: float) -> float:
    """The t below which `probability` lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def below(statistic: float, freedom: float) -> float:
    """Probability of a smaller t."""
    from scipy.special import stdtr

    return float(stdtr(freedom, statistic))


def p_value(statistic: float, freedom: float) -> float:
    """Two-sided probability of a t at least as far from zero."""
    return 2 * below(-abs(statistic), freedom)
