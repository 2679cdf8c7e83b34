"""Intervals and tests of arrays. A name brings its own module: whoever prints an `Estimate` needs no numpy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.stats.alpha_choice import AlphaChoice, choose_alpha
    from analysis.stats.clusters import Array, Labels, by_cluster
    from analysis.stats.estimate import Estimate
    from analysis.stats.estimates import (
        LEVEL,
        hierarchical_bootstrap,
        mean_over_seeds,
        mean_over_seeds_and_instructions,
        moved_to,
        ratio_over_seeds,
        relative_change,
    )
    from analysis.stats.power import detectable_factor, minimum_detectable_effect, seeds_needed
    from analysis.stats.significance import equivalence_p_value, holm, p_value, with_pooled_scatter, with_shared_scatter
    from harness.metrics.halves import choosing_half

_MODULES = {
    "analysis.stats.alpha_choice": (
        "AlphaChoice",
        "choose_alpha",
    ),
    "analysis.stats.clusters": (
        "Array",
        "Labels",
        "by_cluster",
    ),
    "analysis.stats.estimate": ("Estimate",),
    "analysis.stats.estimates": (
        "LEVEL",
        "hierarchical_bootstrap",
        "mean_over_seeds",
        "mean_over_seeds_and_instructions",
        "moved_to",
        "ratio_over_seeds",
        "relative_change",
    ),
    "analysis.stats.power": (
        "detectable_factor",
        "minimum_detectable_effect",
        "seeds_needed",
    ),
    "analysis.stats.significance": (
        "equivalence_p_value",
        "holm",
        "p_value",
        "with_pooled_scatter",
        "with_shared_scatter",
    ),
    "harness.metrics.halves": ("choosing_half",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

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
    "with_pooled_scatter",
    "with_shared_scatter",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
