"""What a study shows about each noise, in a sentence: the difference to no noise with its interval, or the power.

No alpha is selected: each seed counts with its mean over all alphas that were run, so one noise is one comparison.
Noises at the same alphas are taken to scatter alike over seeds: their scatter is pooled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import stats
from analysis.sources.runs import Runs
from analysis.stats import Array, Estimate, Labels
from analysis.study.comparable import BASELINE, Comparable, settings_of, split
from analysis.study.measures import PROXY, Measures
from analysis.study.rows import sort_label
from analysis.study.verdicts import FEWEST_SEEDS, Comparison, Decision, decide
from harness.metrics.names import ACCURACY, WIN_RATE

_CHECKER = ":checker"


@dataclass(frozen=True)
class Difference:
    """One noise against no noise, paired by seed and instruction; a seed counts with its mean over the alphas.

    values: (S, I), in the unit of the metric. clusters: (I,), the family or source of each instruction.
    """

    noise: str
    alphas: tuple[str, ...]
    values: Array
    clusters: Labels

    def estimate(self, factor: float = 1.0) -> Estimate:
        """Its mean, with the interval that it has by itself."""
        return stats.mean_over_seeds_and_instructions(factor * self.values, clusters_I=self.clusters)


@dataclass(frozen=True)
class Finding:
    """One noise against no noise, paired by seed and instruction.

    difference: in points, with the scatter of seeds that the noises at its alphas share. p: after Holm's correction
    over the noises of the study. least: the true difference that would have been detected with 80% power, in points.
    verdict: helps, hurts, no effect beyond the margin, or undecided.
    """

    noise: str
    alphas: tuple[str, ...]
    measure: str
    difference: Estimate
    p: float
    least: float
    verdict: str
    of: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether there are enough seeds and the p-value is below the level."""
        return self.difference.runs >= FEWEST_SEEDS and self.p < stats.LEVEL

    def __str__(self) -> str:
        found = self.difference
        mean = f"{self._points(found.mean, '+')} points"
        at = f" ({_alphas(self.alphas)}{self.of})"
        if found.runs < FEWEST_SEEDS:
            seeds = "one seed" if found.runs == 1 else f"{found.runs} seeds"
            return f"{self.noise}: no finding from {seeds}; {FEWEST_SEEDS} are the least ({self.measure} {mean}{at})"
        if np.isnan(found.low):
            return f"{self.noise}: {self.measure} {mean} in every run{at}; without scatter there is no interval"
        interval = f"[{self._points(found.low, '+')}, {self._points(found.high, '+')}]"
        counted = f"{found.runs} seeds × {found.instructions} instructions"
        if self.is_shown:
            verb = "raises" if found.mean > 0 else "lowers"
            p = "p < 0.001" if self.p < 0.001 else f"p {self.p:.3f}"
            size = self._points(abs(found.mean))
            return f"{self.noise} {verb} the {self.measure} by {size} points {interval}{at}: {counted}, {p}"
        seen = f"would have been seen from {self._points(self.least)} points on"
        return f"{self.noise}: {self.verdict}: the {self.measure} {mean} {interval}{at}; {seen} ({counted})"

    @staticmethod
    def _points(value: float, sign: str = "") -> str:
        """Without a negative zero."""
        return f"{round(value, 1) + 0.0:{sign}.1f}"


def findings(runs: Runs) -> list[Finding]:
    """A finding for each noise of each comparable part of the runs, in the order of the tables.

    The measure is accuracy if a checker marked the answers (a right one draws with the reference, so it is twice the
    win rate), else the win rate.
    """
    settings = settings_of(runs)
    parts = [part for part in split(settings, ("noise", "alpha")) if part.finished]
    measures = Measures(runs)
    return [finding for part in parts for finding in _of_part(part, runs, measures, len(parts) > 1)]


def without_baseline(runs: Runs) -> bool:
    """Whether there is noise, and no finished run without any."""
    noises = set(runs.runs["noise"].dropna())
    return bool(noises) and BASELINE not in noises


def _of_part(part: Comparable, runs: Runs, measures: Measures, several: bool) -> Iterator[Finding]:
    compared = list(differences(part, measures, WIN_RATE))
    measure, factor = _measure(runs, [str(each) for each in _finished(part).index])
    name = ACCURACY if factor > 1 else WIN_RATE
    of = f"; {part.title}" if several else ""
    of += "; on the half of the instructions that no search has looked at" if measures.is_searched else ""
    decisions = decided(name, [each.estimate(factor) for each in compared], [each.alphas for each in compared])
    for each, made in zip(compared, decisions, strict=True):
        found = made.comparison.difference
        least = stats.minimum_detectable_effect(found, level=stats.LEVEL / len(compared))
        yield Finding(each.noise, each.alphas, measure, found, made.p, least, str(made), of)


def decided(name: str, estimates: Sequence[Estimate], alphas: Sequence[tuple[str, ...]]) -> list[Decision]:
    """A verdict on each noise of a study, from its difference to none in one metric.

    Args:
        name: the metric; its margin is in points.
        estimates: of each noise.
        alphas: at which each noise was run.
    """
    tested = stats.with_pooled_scatter(estimates, alphas)
    return decide([Comparison(name, each, float("nan")) for each in tested])  # a margin in points needs no control


def differences(part: Comparable, measures: Measures, name: str) -> Iterator[Difference]:
    """The difference of each noise to none, in a metric with a number for each instruction."""
    finished = _finished(part)
    base = finished[finished["noise"] == BASELINE]
    baseline = dict(zip(base["seed"], base.index, strict=True))
    for noise in sorted(set(finished["noise"]) - {BASELINE}, key=sort_label):
        ours = finished[finished["noise"] == noise]
        found = _difference(ours, baseline, measures, name)
        if found is not None:
            yield Difference(noise, tuple(sorted(set(ours["alpha"]) - {""}, key=sort_label)), *found)


def _finished(part: Comparable) -> pd.DataFrame:
    return part.settings[part.settings["status"] == "finished"]


def _difference(
    ours: pd.DataFrame, baseline: dict[str, str], measures: Measures, name: str
) -> tuple[Array, Labels] | None:
    """Values and clusters of a `Difference`, over the seeds that have every alpha; None without any."""
    by_seed = {str(seed): [str(run_id) for run_id in members.index] for seed, members in ours.groupby("seed")}
    most = max(len(run_ids) for run_ids in by_seed.values())
    seeds = [seed for seed, run_ids in by_seed.items() if seed in baseline and len(run_ids) == most]
    if not seeds:
        return None
    means = [measures.together(by_seed[seed]) for seed in seeds]
    items = measures.items(name, [*means, *(baseline[seed] for seed in seeds)])
    items_SI = items.to_numpy().T
    return (items_SI[: len(seeds)] - items_SI[len(seeds) :], measures.clusters(items)) if items_SI.size else None


def _measure(runs: Runs, run_ids: Sequence[str]) -> tuple[str, float]:
    """Name of the measure, and its points per point of win rate."""
    frame = runs.preferences
    annotators = set(frame[frame["run_id"].isin(run_ids)]["annotator"].map(str))
    if annotators and all(name.endswith(_CHECKER) for name in annotators):
        return "accuracy", 2.0
    return ("proxy win rate" if any(PROXY in name for name in annotators) else "win rate"), 1.0


def _alphas(alphas: Sequence[str]) -> str:
    plain = [f"{float(alpha):g}" for alpha in alphas]
    return f"mean over alpha {', '.join(plain)}" if len(plain) > 1 else f"alpha {', '.join(plain)}" if plain else "any"
