"""What the analysis claims of its intervals, p-values, minimum detectable effects and verdicts, by simulation.

    python -m benchmarks.intervals                    # some ten minutes of one core
    python -m benchmarks.intervals --tables 2000

Every table has a baseline and K noises, S seeds each, which answer the same instructions. Instructions come in families
(clusters): wins are drawn from the instruction's own difficulty (0.2 to 0.6), plus the run's own shift (normal, the
deviation "seed sd" in points), plus the noise's own effect on each family (normal around zero, "family sd" in points).

Printed, in percent of the simulated tables: intervals of a difference that hold the truth, with families as clusters
and with instructions as independent; tables with a false alarm after Holm's correction; how often a true difference as
large as one table's minimum detectable effect is found by another table; tables where the verdict says "helps" or
"hurts" though nothing does; tables where it says "no effect beyond 2 points" though every effect is 2 points (all
differences scaled so that 2 points are four standard errors: with fewer it mostly says "undecided").
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from analysis import stats
from analysis.stats import Array, Estimate
from analysis.study.verdicts import MARGINS, Comparison, Decision, decide
from benchmarks._common import machine, table
from harness.metrics.names import WIN_RATE

FAMILIES = {
    "none": [1] * 257,
    "26 of 10": [10] * 26,
    "builtin": [17] * 4 + [7] * 9 + [6] * 21,  # 257 instructions of 34 task families
    "AlpacaEval": [252, 188, 156, 129, 80],  # its five sources
}
# seeds, families, seed sd, family sd
_SETTINGS = [
    *((seeds, "none", shift, 0) for seeds, shift in ((2, 2), (3, 0), (3, 2), (3, 8), (5, 2))),
    *(
        (seeds, families, 2, spread)
        for families in ("26 of 10", "builtin", "AlpacaEval")
        for seeds in (3, 5)
        for spread in (0, 10)
    ),
    (2, "builtin", 2, 10),
    (5, "builtin", 8, 10),
]
_HEADER = [
    *("seeds", "families", "seed sd", "family sd", "K", "holds", "holds, independent", "alarms", "alarms, independent"),
    *("minimum detectable effect (points)", "found there", "false helps or hurts", "false no effect"),
]
_ERRORS_IN_MARGIN = 4


@dataclass(frozen=True)
class Setting:
    """One kind of study: seeds, families, deviations of a run's and of a family's shift in points, noises."""

    seeds: int
    families: str
    shift: float
    spread: float
    noises: int

    @property
    def clusters(self) -> Array:
        """The family of each instruction (I,)."""
        sizes = FAMILIES[self.families]
        return np.repeat(np.arange(len(sizes), dtype=float), sizes)

    def differences(self, generator: np.random.Generator) -> list[Array]:
        """(S, I) of each noise, in points; no noise has an effect on average."""
        difficulty_I = generator.uniform(0.2, 0.6, len(self.clusters))
        base_SI = self._wins(generator, difficulty_I)
        return [self._wins(generator, difficulty_I + self._effect(generator)) - base_SI for _ in range(self.noises)]

    def _effect(self, generator: np.random.Generator) -> Array:
        of_family = generator.normal(0, self.spread / 100, len(FAMILIES[self.families]))
        effects_I: Array = of_family[self.clusters.astype(int)]
        return effects_I

    def _wins(self, generator: np.random.Generator, chance_I: Array) -> Array:
        shift_S1 = generator.normal(0, self.shift / 100, (self.seeds, 1))
        wins_SI: Array = 100.0 * (generator.random((self.seeds, len(chance_I))) < chance_I + shift_S1)
        return wins_SI


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400, help="simulated tables of each kind")
    parser.add_argument("--noises", default="2,8", help="K, comma-separated")
    arguments = parser.parse_args()
    rows = []
    for noises in map(int, arguments.noises.split(",")):
        for setting in (Setting(*each, noises) for each in _SETTINGS):
            rows.append(simulate(setting, arguments.tables))
            print(f"{setting}: {rows[-1]}", flush=True)
    print(f"\n{arguments.tables} tables of each kind, in percent of them; {machine()}\n")
    print(table(_HEADER, rows))


def simulate(setting: Setting, tables: int) -> list[str]:
    """One row of the printed table."""
    generator, clusters_I = np.random.default_rng(0), setting.clusters
    counts = np.zeros(5)
    studies: list[list[Estimate]] = []
    for _ in range(tables):
        values = setting.differences(generator)
        found = [stats.mean_over_seeds_and_instructions(each, clusters_I=clusters_I) for each in values]
        independent = [stats.mean_over_seeds_and_instructions(each) for each in values]
        tested = stats.with_shared_scatter(found)
        decided = _decided(tested, 1.0, 0.0)
        claimed = any(decision.differs for decision in decided)
        alarms = (_alarm(tested), _alarm(stats.with_shared_scatter(independent)))
        counts += (_holds(found[0]), _holds(independent[0]), *alarms, claimed)
        studies.append(tested)
    sizes = [_detectable(tested) for tested in studies]
    hits = sum(_is_found(tested, size) for tested, size in zip(studies[1:] + studies[:1], sizes, strict=True))
    margin = MARGINS[WIN_RATE].size
    scale = margin / _ERRORS_IN_MARGIN / median(each.error for tested in studies for each in tested)
    missed = sum(any(each.is_equivalent for each in _decided(tested, scale, margin)) for tested in studies)
    shares = [f"{100 * count / tables:.0f}" for count in counts]
    named = [str(setting.seeds), setting.families, f"{setting.shift:g}", f"{setting.spread:g}", str(setting.noises)]
    found_there, equivalent = (f"{100 * count / tables:.0f}" for count in (hits, missed))
    return [*named, *shares[:4], f"{median(sizes):.1f}", found_there, shares[4], equivalent]


def _decided(tested: Sequence[Estimate], scale: float, effect: float) -> list[Decision]:
    """The verdicts on these differences, scaled and moved by a true effect."""
    moved = [replace(each, mean=each.mean * scale + effect, error=each.error * scale) for each in tested]
    return decide([Comparison(WIN_RATE, each, 40.0) for each in moved])


def _holds(estimate: Estimate) -> bool:
    return bool(estimate.low <= 0 <= estimate.high)


def _alarm(tested: Sequence[Estimate]) -> bool:
    p_values = np.array([stats.p_value(each) for each in tested])
    return bool(np.nanmin(stats.holm(p_values)) < stats.LEVEL)


def _detectable(tested: Sequence[Estimate]) -> float:
    return stats.minimum_detectable_effect(tested[0], level=stats.LEVEL / len(tested))


def _is_found(tested: Sequence[Estimate], effect: float) -> bool:
    """At the strictest step of Holm's correction, for which the minimum detectable effect is given."""
    moved = replace(tested[0], mean=tested[0].mean + effect)
    return bool(stats.p_value(moved) < stats.LEVEL / len(tested))


if __name__ == "__main__":
    main()
