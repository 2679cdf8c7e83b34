"""Intervals and tests of arrays."""

from analysis.stats.estimates import (
    LEVEL,
    AlphaChoice,
    Array,
    Estimate,
    choose_alpha,
    choosing_half,
    detectable,
    hierarchical_bootstrap,
    holm,
    mean_over_seeds,
    mean_over_seeds_and_instructions,
    moved_to,
    p_value,
    ratio_over_seeds,
    relative_change,
    with_shared_scatter,
)

__all__ = [
    "LEVEL",
    "AlphaChoice",
    "Array",
    "Estimate",
    "choose_alpha",
    "choosing_half",
    "detectable",
    "hierarchical_bootstrap",
    "holm",
    "mean_over_seeds",
    "mean_over_seeds_and_instructions",
    "moved_to",
    "p_value",
    "ratio_over_seeds",
    "relative_change",
    "with_shared_scatter",
]
