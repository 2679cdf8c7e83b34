"""An alpha chosen on one half of the instructions and reported on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.stats.clusters import Array
from analysis.stats.estimate import Estimate
from analysis.stats.estimates import mean_over_seeds_and_instructions


@dataclass(frozen=True)
class AlphaChoice:
    """An alpha chosen on one half of the instructions with its mean on the other, and the papers' way.

    on_test, on_test_mean: the alpha with the best mean over all instructions, and that mean: biased upwards, because
    the same instructions choose and report.
    """

    alpha: float
    held_out: Estimate
    on_test: float
    on_test_mean: float


def choose_alpha(values_SI: Mapping[float, Array], choosing_I: NDArray[np.bool_]) -> AlphaChoice:
    """Choose the alpha with the highest mean on the instructions marked True; of equals, the smaller alpha.

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
