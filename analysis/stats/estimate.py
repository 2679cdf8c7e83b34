"""What every interval is: tables hold them, and printing one needs no arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean with standard error and interval; NaN if the data do not determine them.

    Values without any spread have an error of 0 and no interval: nothing is known about how far they would scatter.
    runs: seeds behind it. instructions: those behind the interval, 0 if it rests on runs alone. freedom: degrees of
    freedom of the error. squares: mean squares of seeds, instructions (or their clusters) and the rest, where there
    are instructions; those of seeds and rest are NaN for one seed. clusters: of instructions, where the interval takes
    clusters for independent and not instructions; item_freedom: degrees of freedom of their mean square.
    """

    mean: float
    error: float
    low: float
    high: float
    runs: int
    instructions: int = 0
    freedom: float = _NAN
    squares: tuple[float, float, float] = (_NAN, _NAN, _NAN)
    clusters: int = 0
    item_freedom: float = _NAN

    @property
    def units(self) -> int:
        """Number of independent units besides the seeds: clusters of instructions, or instructions."""
        return self.clusters or self.instructions

    @property
    def freedom_of_items(self) -> float:
        """Degrees of freedom of the items' mean square: fewer for clusters of unequal size than their number."""
        return self.units - 1.0 if math.isnan(self.item_freedom) else self.item_freedom
