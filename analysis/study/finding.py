"""What a study shows about each noise, in a sentence: the difference to no noise with its interval, or the power.

No alpha is selected: each seed counts with its mean over all alphas that were run, so one noise is one comparison.
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
from analysis.study.verdicts import FEWEST_SEEDS, Comparison, decide
from harness.metrics.names import ACCURACY, WIN_RATE

_CHECKER = ":checker"


@dataclass(frozen=True)
class Finding:
    """One noise against no noise, paired by seed and instruction.

    difference: in points. p: after Holm's correction over the noises of the study. least: the true difference that
    would have been detected with 80% power, in points. verdict: helps, hurts, no effect beyond the margin, or
    undecided.
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
    finished = part.settings[part.settings["status"] == "finished"]
    base = finished[finished["noise"] == BASELINE]
    baseline = dict(zip(base["seed"], base.index, strict=True))
    compared = []
    for noise in sorted(set(finished["noise"]) - {BASELINE}, key=sort_label):
        ours = finished[finished["noise"] == noise]
        difference = _difference(ours, baseline, measures)
        if difference is not None:
            compared.append((noise, tuple(sorted(set(ours["alpha"]) - {""}, key=sort_label)), difference))
    if not compared:
        return
    measure, factor = _measure(runs, [str(each) for each in finished.index])
    estimates = [
        stats.mean_over_seeds_and_instructions(factor * values_SI, clusters_I=clusters_I)
        for _, _, (values_SI, clusters_I) in compared
    ]
    tested = stats.with_shared_scatter(estimates)
    name = ACCURACY if factor > 1 else WIN_RATE
    decisions = decide([Comparison(name, each, float("nan")) for each in tested])  # a margin in points needs no control
    of = f"; {part.title}" if several else ""
    of += "; on the half of the instructions that no search has looked at" if measures.is_searched else ""
    for (noise, alphas, _), estimate, test, made in zip(compared, estimates, tested, decisions, strict=True):
        least = stats.minimum_detectable_effect(test, level=stats.LEVEL / len(compared))
        yield Finding(noise, alphas, measure, estimate, made.p, least, str(made), of)


def _difference(ours: pd.DataFrame, baseline: dict[str, str], measures: Measures) -> tuple[Array, Labels] | None:
    """(S, I) in points, and each instruction's cluster; over seeds that have every alpha.

    A seed's difference is the mean of its runs over alpha minus the run without noise.
    """
    by_seed = {str(seed): [str(run_id) for run_id in members.index] for seed, members in ours.groupby("seed")}
    most = max(len(run_ids) for run_ids in by_seed.values())
    seeds = [seed for seed, run_ids in by_seed.items() if seed in baseline and len(run_ids) == most]
    if not seeds:
        return None
    means = [measures.together(by_seed[seed]) for seed in seeds]
    wins = measures.wins([*means, *(baseline[seed] for seed in seeds)])
    wins_SI = wins.to_numpy().T
    return (wins_SI[: len(seeds)] - wins_SI[len(seeds) :], measures.clusters(wins)) if wins_SI.size else None


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
