"""What the analysis claims of its intervals, p-values and detectable differences, by simulation.

    python -m benchmarks.intervals                    # about five minutes of one core
    python -m benchmarks.intervals --tables 2000

Every table has a baseline and K noises without effect, S seeds each, which answer the same I instructions: wins are
drawn from the instruction's own difficulty (0.2 to 0.6) plus the run's own shift (normal, the deviation in points).
Printed, in percent of the simulated tables: intervals of a difference that hold the truth; tables with a false alarm
after Holm, with each row's own scatter and with the shared one that the tables use; and how often a true difference is
found that is as large as the table's detectable one (its median over tables).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from analysis import stats
from analysis.stats import Array, Estimate
from benchmarks._common import machine, table

_HEADER = ["seeds", "instructions", "seed sd", "K", "t holds", "bootstrap holds", "alarms, own", "alarms, shared"]
_SETTINGS = [(2, 257, 2), (2, 805, 8), (3, 60, 2), (3, 257, 0), (3, 257, 2), (3, 805, 8), (5, 257, 2), (5, 805, 8)]


@dataclass(frozen=True)
class Setting:
    """One kind of study: seeds, instructions, standard deviation of a run's shift in points, noises."""

    seeds: int
    instructions: int
    shift: float
    noises: int

    def differences(self, generator: np.random.Generator, effect: float = 0.0) -> list[Array]:
        """(S, I) of each noise, in points; the first has the effect."""
        difficulty_I = generator.uniform(0.2, 0.6, self.instructions)
        base_SI = self._wins(generator, difficulty_I)
        effects = [effect, *[0.0] * (self.noises - 1)]
        return [self._wins(generator, difficulty_I + each / 100) - base_SI for each in effects]

    def _wins(self, generator: np.random.Generator, chance_I: Array) -> Array:
        shift_S1 = generator.normal(0, self.shift / 100, (self.seeds, 1))
        wins_SI: Array = 100.0 * (generator.random((self.seeds, self.instructions)) < chance_I + shift_S1)
        return wins_SI


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=300, help="simulated tables of each kind")
    parser.add_argument("--noises", default="2,8", help="K, comma-separated")
    arguments = parser.parse_args()
    rows = []
    for noises in map(int, arguments.noises.split(",")):
        for setting in (Setting(*each, noises) for each in _SETTINGS):
            rows.append(simulate(setting, arguments.tables))
            print(f"{setting}: {rows[-1]}", flush=True)
    print(f"\n{arguments.tables} tables of each kind, in percent of them; {machine()}\n")
    print(table([*_HEADER, "detectable (points)", "found there"], rows))


def simulate(setting: Setting, tables: int) -> list[str]:
    """One row of the printed table."""
    generator = np.random.default_rng(0)
    held, held_bootstrap, own, shared, sizes = 0, 0, 0, 0, []
    level = stats.LEVEL / setting.noises
    for number in range(tables):
        found_SI = setting.differences(generator)
        found = [stats.mean_over_seeds_and_instructions(each) for each in found_SI]
        held += _holds(found[0])
        held_bootstrap += _holds(stats.hierarchical_bootstrap(found_SI[0], draws=1000, seed=number))
        own += _alarm(found)
        tested = stats.with_shared_scatter(found)
        shared += _alarm(tested)
        sizes.append(stats.detectable(tested[0], level=level))
    size = median(value for value in sizes if not np.isnan(value))
    hits = sum(_is_found(setting.differences(generator, size)) for _ in range(tables))
    shares = [f"{100 * count / tables:.0f}" for count in (held, held_bootstrap, own, shared)]
    named = [str(setting.seeds), str(setting.instructions), f"{setting.shift:g}", str(setting.noises)]
    return [*named, *shares, f"{size:.1f}", f"{100 * hits / tables:.0f}"]


def _holds(estimate: Estimate) -> bool:
    return bool(estimate.low <= 0 <= estimate.high)


def _alarm(found: Sequence[Estimate]) -> bool:
    p_values = np.array([stats.p_value(each) for each in found])
    return bool(np.nanmin(stats.holm(p_values)) < stats.LEVEL)


def _is_found(differences: Sequence[Array]) -> bool:
    """At the strictest step of Holm's correction, for which the detectable difference is given."""
    tested = stats.with_shared_scatter([stats.mean_over_seeds_and_instructions(each) for each in differences])
    return bool(stats.p_value(tested[0]) < stats.LEVEL / len(differences))


if __name__ == "__main__":
    main()
