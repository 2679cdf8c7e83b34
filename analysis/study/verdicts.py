"""The verdict of a comparison: it helps, it hurts, it has no effect beyond a margin, or it is undecided.

Below the margins a difference would not matter to a user of the model. They are fixed here, before any run, and no
option changes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis import stats
from analysis.stats import Estimate
from analysis.study.metrics import metric
from harness.metrics.names import ACCURACY, CONTROLLED, EVAL_LOSS, LENGTH, PARTIAL_CREDIT, WIN_RATE

# Fewer seeds decide nothing: two models trained alike also differ by chance.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Margin:
    """The largest difference that does not matter: in points, or in percent of the control's mean."""

    size: float
    unit: str

    def __str__(self) -> str:
        return f"{self.size:g}%" if self.unit == "%" else f"{self.size:g} {self.unit}"

    @classmethod
    def read(cls, text: str) -> Margin:
        """Out of words: 2 points, 1%.

        Raises:
            ValueError: no number above 0 with the unit % or points.
        """
        found = re.fullmatch(r"\s*([0-9.]+)\s*(%|points)\s*", str(text))
        try:
            size = float(found[1]) if found else 0.0
        except ValueError:
            size = 0.0
        if not found or not size > 0:
            raise ValueError(f"margin {text!r}: a number above 0 with its unit, 2 points or 1%")
        return cls(size, found[2])

    def absolute(self, control: float) -> float:
        """The margin in the unit of the metric, for a control with this mean."""
        return self.size / 100 * abs(control) if self.unit == "%" else self.size


_POINTS = Margin(2.0, "points")
MARGINS = {
    WIN_RATE: _POINTS,
    CONTROLLED: _POINTS,
    ACCURACY: _POINTS,
    PARTIAL_CREDIT: _POINTS,
    EVAL_LOSS: Margin(1.0, "%"),
    LENGTH: Margin(10.0, "%"),
}


@dataclass(frozen=True)
class Comparison:
    """A paired difference of a metric, as it is tested. control: the mean of what it is a difference to.

    stated: the margin of a metric that has none fixed here, stated before the runs.
    """

    metric: str
    difference: Estimate
    control: float
    stated: Margin | None = None

    @property
    def margin(self) -> Margin | None:
        """Of its metric, a split of a checker's marks included; else the stated one; None without either."""
        whole = self.metric.rpartition("/")[0]
        return MARGINS.get(whole if whole in (ACCURACY, PARTIAL_CREDIT) else self.metric, self.stated)


@dataclass(frozen=True)
class Decision:
    """p, p_equivalence: for a difference, and for none beyond the margin; each after Holm over all comparisons.

    level: of Holm's strictest step.
    """

    comparison: Comparison
    p: float
    p_equivalence: float
    level: float

    @property
    def differs(self) -> bool:
        return self.comparison.difference.runs >= FEWEST_SEEDS and self.p < stats.LEVEL

    @property
    def is_equivalent(self) -> bool:
        return self.comparison.difference.runs >= FEWEST_SEEDS and self.p_equivalence < stats.LEVEL

    def __str__(self) -> str:
        """The verdict in words."""
        margin = self.comparison.margin
        if self.differs:
            return f"{self._direction()}, by less than {margin}" if self.is_equivalent else self._direction()
        return f"no effect beyond {margin}" if self.is_equivalent else self.undecided

    @property
    def undecided(self) -> str:
        """What would be needed to decide."""
        difference = self.comparison.difference
        if difference.runs < FEWEST_SEEDS:
            return f"undecided: needs at least {FEWEST_SEEDS} seeds"
        if not difference.error > 0:
            return "undecided: no scatter to judge by"
        if self.comparison.margin is None:
            return "undecided"
        seeds = stats.seeds_needed(
            difference, self.comparison.margin.absolute(self.comparison.control), level=self.level
        )
        if seeds is None:
            return "undecided: needs more instructions" if difference.instructions else "undecided: over 200 seeds"
        return f"undecided: needs about {max(seeds, difference.runs + 1)} seeds"

    def _direction(self) -> str:
        known, rises = metric(self.comparison.metric), self.comparison.difference.mean > 0
        if self.comparison.metric == LENGTH:
            return "longer" if rises else "shorter"
        if known.better == "neither":
            return "higher" if rises else "lower"
        return "helps" if rises == (known.better == "higher") else "hurts"


def decide(comparisons: Sequence[Comparison]) -> list[Decision]:
    """A verdict for each comparison of a table.

    A difference: p < 5% after Holm's correction over the table. No effect beyond the margin: two one-sided tests, each
    at 5%, corrected likewise. So the probability of any false "helps" or "hurts", and that of any false "no effect",
    are at most 5% each. Neither is said with fewer than FEWEST_SEEDS seeds.
    """
    p_values = stats.holm(np.array([stats.p_value(each.difference) for each in comparisons]))
    equivalence = stats.holm(np.array([_equivalence(each) for each in comparisons]))
    level = stats.LEVEL / max(1, int(np.isfinite(p_values).sum()))
    return [
        Decision(each, float(p), float(q), level) for each, p, q in zip(comparisons, p_values, equivalence, strict=True)
    ]


def _equivalence(comparison: Comparison) -> float:
    if comparison.margin is None:
        return float("nan")
    return stats.equivalence_p_value(comparison.difference, comparison.margin.absolute(comparison.control))
