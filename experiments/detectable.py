"""What a study detects, by simulation with the scatter of its runs: `python -m experiments.detectable RUNS`.

RUNS: a finished study, such as the one of `make run`. The scatter of each noise's difference to no noise, with its mean
over the alphas, is split into that of seeds, of families of instructions and the rest, for accuracy and for partial
credit. Studies with this scatter are drawn, half of it shared by the noises (their baseline's), and decided by the rule
of `python -m analysis finding`: pooled scatter, Holm's correction over the noises.

false alarm: studies without effect in which any noise is said to have one. N points: how often the noise that has this
effect is found, beside noises without. 80% from: the effect that is found in four of five. says: what a null finding
says, "would have been seen from X points on": the median, and the tenth and ninetieth percentile. interval: how often
it holds the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import load_runs, stats
from analysis.commands.options import add_sources, selection
from analysis.sources.runs import Runs
from analysis.stats import Array, Estimate
from analysis.study.comparable import settings_of, split
from analysis.study.finding import decided, differences
from analysis.study.measures import Measures
from analysis.study.metrics import metric
from analysis.study.verdicts import Decision
from experiments.plan import Scatter
from experiments.power import draw
from harness.metrics.names import ACCURACY, PARTIAL_CREDIT

EFFECTS = (1.0, 2.0, 3.0)
SEEDS = (3, 5, 8)
POWER = 0.8
_STEP, _LARGEST = 0.05, 10.0
_MEASURES = (ACCURACY, PARTIAL_CREDIT)


@dataclass(frozen=True)
class Detects:
    """What studies of this many seeds detect: shares of them, and effects in points.

    found: by effect. smallest: what is found with 80% power. says: percentiles 10, 50 and 90 of what studies state as
    that.
    """

    false_alarm: float
    found: dict[float, float]
    smallest: float
    says: tuple[float, float, float]
    holds: float


def main() -> int:
    """Print the scatter of the study and what such studies detect, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sources(parser)
    parser.add_argument("--studies", type=int, default=1000, help="simulated, for each number of seeds")
    arguments = parser.parse_args()
    try:
        print(report(load_runs(arguments.source, **selection(arguments)), arguments.studies))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(runs: Runs, studies: int) -> str:
    """Two Markdown tables: the deviations, and what is detected.

    Raises:
        ValueError: the runs are not one study of several seeds with a checker's marks and a baseline.
    """
    found = scatters(runs)
    lines = [
        "| measure | seeds | noises | seed sd | family sd | rest sd | families |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (scatter, seeds, noises) in found.items():
        numbers = f"{scatter.seed:.2f} | {scatter.item:.2f} | {scatter.rest:.2f} | {scatter.units}"
        lines.append(f"| {metric(name).header} | {seeds} | {noises} | {numbers} |")
    effects = [f"{effect:g} point{'s' * (effect != 1)}" for effect in EFFECTS]
    header = ["measure", "seeds", "false alarm", *effects, "80% from", "says", "interval"]
    lines += ["", f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    for name, (scatter, _, noises) in found.items():
        for seeds in SEEDS:
            lines.append(f"| {metric(name).header} | {seeds} | {_row(detects(scatter, noises, seeds, studies))} |")
    return "\n".join(lines)


def _row(found: Detects) -> str:
    shares = [f"{share:.1%}" if share < 0.1 else f"{share:.0%}" for share in (found.false_alarm, *found.found.values())]
    low, middle, high = found.says
    says = f"{middle:.1f} ({low:.1f} to {high:.1f})"
    return " | ".join([*shares, f"{found.smallest:.1f}", says, f"{found.holds:.0%}"])


def scatters(runs: Runs) -> dict[str, tuple[Scatter, int, int]]:
    """Of each measure the mean scatter of the differences to no noise, the seeds behind it and the number of noises."""
    measures = Measures(runs)
    parts = [part for part in split(settings_of(runs), ("noise", "alpha")) if part.finished]
    if len(parts) != 1:
        raise ValueError(f"{len(parts)} studies of finished runs; name one, with --where")
    found = {}
    for name in _MEASURES:
        estimates = [each.estimate() for each in differences(parts[0], measures, name)]
        if known := [each for each in estimates if each.runs > 1 and each.clusters]:
            found[name] = (scatter_of(known), min(each.runs for each in known), len(known))
    if not found:
        raise ValueError("no noise with a baseline and several seeds, and marks of a checker for families of tasks")
    return found


def scatter_of(estimates: Sequence[Estimate]) -> Scatter:
    """Deviations from the mean variance components; one that is estimated below 0 is 0."""
    squares = np.array([each.squares for each in estimates])
    counts = np.array([(each.runs, each.clusters) for each in estimates])
    rest = squares[:, 2].mean()
    of_seeds = ((squares[:, 0] - squares[:, 2]) / counts[:, 1]).mean()
    of_items = ((squares[:, 1] - squares[:, 2]) / counts[:, 0]).mean()
    seed, item, rest = (float(np.sqrt(max(0.0, each))) for each in (of_seeds, of_items, rest))
    return Scatter(seed, float("nan"), item, rest, int(counts[0, 1]))


def detects(scatter: Scatter, noises: int, seeds: int, studies: int) -> Detects:
    """Simulate studies with this scatter, the effect on the first noise alone."""
    generator = np.random.default_rng([noises, seeds])
    drawn = [_decided(_study(generator, scatter, noises, seeds)) for _ in range(studies)]
    tested = [[each.comparison.difference for each in study] for study in drawn]
    says = [stats.minimum_detectable_effect(study[0], level=stats.LEVEL / noises) for study in tested]
    return Detects(
        false_alarm=float(np.mean([any(each.differs for each in study) for study in drawn])),
        found={effect: _share_found(tested, effect) for effect in EFFECTS},
        smallest=_smallest(tested),
        says=tuple(np.percentile(says, [10, 50, 90]).tolist()),
        holds=float(np.mean([study[0].low < 0 < study[0].high for study in tested])),
    )


def _study(generator: np.random.Generator, scatter: Scatter, noises: int, seeds: int) -> list[Array]:
    """Differences without effect, (S, families) of each noise; half of the variance is their common baseline's."""
    baseline = draw(generator, scatter, seeds)
    return [(baseline + draw(generator, scatter, seeds)) / np.sqrt(2) for _ in range(noises)]


def _decided(study: Sequence[Array]) -> list[Decision]:
    estimates = [stats.mean_over_seeds_and_instructions(values_SI) for values_SI in study]
    return decided(ACCURACY, estimates, [()] * len(study))


def _share_found(tested: Sequence[Sequence[Estimate]], effect: float) -> float:
    """Share of the studies that find this effect of their first noise: errors do not depend on means."""
    p_values = [
        [stats.p_value(replace(first, mean=first.mean + effect)), *map(stats.p_value, rest)] for first, *rest in tested
    ]
    return float(np.mean([stats.holm(np.array(each))[0] < stats.LEVEL for each in p_values]))


def _smallest(tested: Sequence[Sequence[Estimate]]) -> float:
    """The smallest effect, in steps of 0.05 points, that is found with 80% power."""
    low, high = 0, round(_LARGEST / _STEP)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _share_found(tested, middle * _STEP) < POWER else (low, middle)
    return low * _STEP


if __name__ == "__main__":
    sys.exit(main())
