"""Intervals and tests of arrays."""

from analysis.stats.alpha_choice import AlphaChoice, choose_alpha
from analysis.stats.clusters import Array, Labels, by_cluster
from analysis.stats.estimates import (
    LEVEL,
    Estimate,
    hierarchical_bootstrap,
    mean_over_seeds,
    mean_over_seeds_and_instructions,
    moved_to,
    ratio_over_seeds,
    relative_change,
)
from analysis.stats.power import detectable_factor, minimum_detectable_effect, seeds_needed
from analysis.stats.significance import equivalence_p_value, holm, p_value, with_shared_scatter
from harness.metrics.halves import choosing_half

__all__ = [
    "LEVEL",
    "AlphaChoice",
    "Array",
    "Estimate",
    "Labels",
    "by_cluster",
    "choose_alpha",
    "choosing_half",
    "detectable_factor",
    "equivalence_p_value",
    "hierarchical_bootstrap",
    "holm",
    "mean_over_seeds",
    "mean_over_seeds_and_instructions",
    "minimum_detectable_effect",
    "moved_to",
    "p_value",
    "ratio_over_seeds",
    "relative_change",
    "seeds_needed",
    "with_shared_scatter",
]
