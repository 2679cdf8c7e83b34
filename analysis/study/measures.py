"""Numbers of one cell: estimates over its runs, and differences to the baseline's runs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import stats
from analysis.sources.runs import Runs
from analysis.stats import Array, Estimate
from analysis.study.derived import DERIVED, PERCENT_OF
from analysis.study.metrics import name_of
from analysis.study.search import is_searched
from analysis.suggest import hint
from harness.metrics.names import ACCURACY, CONTROLLED, LENGTH, PARTIAL_CREDIT, RENAMED, WIN_RATE

_NAN = float("nan")
# Part of the name of a judge that only measures closeness to a reference answer.
PROXY = "proxy"
# Metrics with a number for each instruction: the column of `Runs.preferences`, and the factor to the metric's unit.
ITEMS = {
    WIN_RATE: ("model_wins", 100.0),
    ACCURACY: ("correct", 100.0),
    PARTIAL_CREDIT: ("partial_credit", 100.0),
    LENGTH: ("length", 1.0),
}


class Measures:
    """Metrics of runs by name, recorded or derived, as arrays over seeds and instructions."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._by_run: dict[str, dict[str, pd.DataFrame]] = {}
        self._by_item: dict[str, pd.DataFrame] = {}
        self._whole: dict[tuple[str, ...], pd.DataFrame] = {}
        self._members: dict[str, list[str]] = {}

    def together(self, run_ids: Sequence[str]) -> str:
        """The id of a virtual run for the mean of these: one seed's runs on several data sets."""
        name = " + ".join(run_ids)
        self._members[name] = list(run_ids)
        return name

    def _expanded(self, run_ids: Sequence[str]) -> list[str]:
        return [member for run_id in run_ids for member in self._members.get(run_id, [run_id])]

    @cached_property
    def is_searched(self) -> bool:
        """A search chose among these runs by one half of the instructions: numbers are those of the other half."""
        return is_searched(self.runs)

    @cached_property
    def recorded(self) -> pd.DataFrame:
        return self.runs.runs.set_index("run_id")

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The row of each run in `recorded`."""
        return {str(run_id): row for row, run_id in enumerate(self.recorded.index)}

    def known(self, run_ids: Sequence[str]) -> list[str]:
        """Metrics that at least one of these runs recorded."""
        return sorted(set[str]().union(*(self._names[run_id] for run_id in self._expanded(run_ids))))

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        """The metrics that each run recorded, without those that are NaN."""
        names: dict[str, set[str]] = {}
        for run in self.runs.records:
            known = {name for name, value in run.final.items() if "/" in name and value is not None and value == value}
            names.setdefault(run.run_id, set()).update(known)
        return names

    @cached_property
    def _known(self) -> list[str]:
        """Metrics that some run recorded, and those that can be computed."""
        recorded = self.known([str(run_id) for run_id in self.recorded.index])
        papers = [name for name, source in PERCENT_OF.items() if source in recorded]
        return [*recorded, *(set(DERIVED) - {*recorded}), CONTROLLED, *papers]

    def check(self, names: Sequence[str]) -> None:
        """Check that requested metrics exist.

        Raises:
            ValueError: no run has one, or none matches a pattern.
        """
        for name in names:
            if not self.has(name):
                raise ValueError(f"metric {name}: no finished run has it{self._meant(name)}")

    def _meant(self, name: str) -> str:
        if name in RENAMED:
            return f"; it is {RENAMED[name]} now"
        if named := name_of(name):
            return f"; it is {named}"
        return hint(name, self._known) or "; summary.json of a run names what it has"

    def has(self, name: str) -> bool:
        """Whether some run has the metric, or one that matches the pattern."""
        return name in self._known or any(fnmatchcase(each, name) for each in self._known)

    def of_runs(self, name: str, run_ids: Sequence[str]) -> Array:
        """One number per run (S,), NaN if a run has none or it is not finite."""
        if name in PERCENT_OF:
            return 100 * self.of_runs(PERCENT_OF[name], run_ids)
        if any(run_id in self._members for run_id in run_ids):
            return np.array([self.of_runs(name, self._expanded([run_id])).mean() for run_id in run_ids])
        if self.is_searched and name in ITEMS and not (every := self._items_of(name)).empty:
            return every[~_choosing(every)].reindex(columns=list(run_ids)).mean().to_numpy(float)
        if name in self.recorded:
            values_S = self.recorded[name].to_numpy(float)[[self._rows[run_id] for run_id in run_ids]]
        else:
            values_S = np.full(len(run_ids), _NAN)
        pairs = zip(values_S, run_ids, strict=True)
        found_S = np.array([self._derive(name, run_id) if np.isnan(value) else value for value, run_id in pairs])
        return np.where(np.isfinite(found_S), found_S, _NAN)

    def wins(self, run_ids: Sequence[str], half: bool = False) -> pd.DataFrame:
        """Wins in percent, instructions as rows, these runs as columns; only instructions with verdicts in all of them.

        half: only the instructions on which no alpha is chosen.
        """
        return self.items(WIN_RATE, run_ids, half)

    def items(self, name: str, run_ids: Sequence[str], half: bool = False) -> pd.DataFrame:
        """As `wins`, for any metric with a number per instruction (ITEMS); without rows if it has none."""
        if name not in ITEMS:
            return pd.DataFrame(columns=list(run_ids))
        values = self._whole_items(name, run_ids)
        return values[~_choosing(values)] if half or self.is_searched else values

    def _whole_items(self, name: str, run_ids: Sequence[str]) -> pd.DataFrame:
        key = (name, *run_ids)
        if key not in self._whole:
            every = self._items_of(name)
            single_ids = list(dict.fromkeys(self._expanded(run_ids)))
            values_IR = _columns(every, single_ids)
            whole_I = ~np.isnan(values_IR).any(axis=1)
            index = every.index if whole_I.all() else every.index[np.flatnonzero(whole_I)]
            single = pd.DataFrame(values_IR[whole_I], index, single_ids)
            if any(run_id in self._members for run_id in run_ids):
                means = {run_id: single[self._expanded([run_id])].mean(axis=1) for run_id in run_ids}
                single = pd.DataFrame(means, index=single.index)
            self._whole[key] = single if list(single) == list(run_ids) else single[list(run_ids)]
        return self._whole[key]

    def _items_of(self, name: str) -> pd.DataFrame:
        if name not in self._by_item:
            column, factor = ITEMS[name]
            self._by_item[name] = factor * self.runs.by_item(column)
        return self._by_item[name]

    def clusters(self, items: pd.DataFrame) -> NDArray[np.int64]:
        """The task family or source of each row of `items` (I,), as a number in the order of their names."""
        every = self._clusters
        return (every if items.index is every.index else every.reindex(items.index)).to_numpy(np.int64)

    @cached_property
    def _clusters(self) -> pd.Series:
        named = self.runs.clusters
        return pd.Series(np.unique(named.to_numpy(str), return_inverse=True)[1], named.index)

    def is_proxy(self, run_ids: Sequence[str]) -> bool:
        """Whether the verdicts of these runs come from a proxy that takes closeness to one text for quality."""
        found = [self.runs.verdicts[run_id].annotators for run_id in self._expanded(run_ids)]
        return any(PROXY in name for name in set[str | None]().union(*found) if name is not None)

    def unjudged(self, run_ids: Sequence[str]) -> int:
        """Instructions that have a verdict in some of these runs but not in all."""
        missing_IR = np.isnan(_columns(self._items_of(WIN_RATE), self._expanded(run_ids)))
        return int((missing_IR.any(axis=1) & ~missing_IR.all(axis=1)).sum())

    def estimate(self, name: str, run_ids: Sequence[str], half: bool = False) -> Estimate | float:
        """Mean over the runs; NaN if one of them lacks the metric.

        The interval of a metric with a number per instruction is over seeds and clusters of instructions, that of
        others over seeds alone. The mean is that of the recorded numbers, even if verdicts are missing. half: only the
        instructions on which no alpha is chosen.
        """
        items = self.items(name, run_ids, half)
        if half and name in ITEMS and not items.empty:
            return self._mean(items)
        if half and name == LENGTH:
            return stats.mean_over_seeds(self._lengths_of_half(run_ids))
        values_S = self.of_runs(name, run_ids)
        if np.isnan(values_S).any():
            return _NAN
        if items.empty:
            return stats.mean_over_seeds(values_S)
        return stats.moved_to(self._mean(items), float(values_S.mean()))

    def _mean(self, items: pd.DataFrame) -> Estimate:
        return stats.mean_over_seeds_and_instructions(items.to_numpy().T, clusters_I=self.clusters(items))

    def difference(self, name: str, ours: Sequence[str], theirs: Sequence[str], half: bool = False) -> Estimate | float:
        """Mean of ours - theirs, paired: entry i of both has the same seed; for ITEMS also by instruction."""
        items = self.items(name, [*ours, *theirs], half)
        if not items.empty:
            values = items.to_numpy().T
            clusters = self.clusters(items)
            return stats.mean_over_seeds_and_instructions(
                values[: len(ours)] - values[len(ours) :], clusters_I=clusters
            )
        values_S = self.of_runs(name, ours) - self.of_runs(name, theirs)
        return _NAN if np.isnan(values_S).any() else stats.mean_over_seeds(values_S)

    def relative(self, name: str, ours: Sequence[str], theirs: Sequence[str], half: bool = False) -> Estimate | float:
        """Change in percent of the baseline's number, paired as in `difference`."""
        items = self.items(name, [*ours, *theirs], half)
        if not items.empty:
            values = items.to_numpy().T
            return stats.relative_change(values[: len(ours)], values[len(ours) :], clusters_I=self.clusters(items))
        ours_S, theirs_S = self.of_runs(name, ours), self.of_runs(name, theirs)
        return _NAN if np.isnan(ours_S + theirs_S).any() else stats.ratio_over_seeds(ours_S, theirs_S)

    def bootstrapped(self, ours: Sequence[str], theirs: Sequence[str], half: bool = False) -> Estimate | float:
        """The difference in win rate, paired as in `difference`, with a hierarchical bootstrap interval."""
        wins = self.wins([*ours, *theirs], half)
        values = wins.to_numpy().T
        if wins.empty:
            return _NAN
        return stats.hierarchical_bootstrap(values[: len(ours)] - values[len(ours) :], clusters_I=self.clusters(wins))

    def choose_alpha(self, runs_of_alpha: dict[float, list[str]]) -> stats.AlphaChoice | None:
        """Alpha chosen on one half of the instructions, win rate on the other; None without verdicts on both."""
        everything = [run_id for run_ids in runs_of_alpha.values() for run_id in run_ids]
        wins = self._whole_items(WIN_RATE, everything)
        choosing_I = _choosing(wins)
        if wins.empty or choosing_I.all() or not choosing_I.any():
            return None
        return stats.choose_alpha(
            {alpha: wins[run_ids].to_numpy().T for alpha, run_ids in runs_of_alpha.items()}, choosing_I
        )

    def _lengths_of_half(self, run_ids: Sequence[str]) -> Array:
        """Mean characters per run (S,) of the answers to the instructions on which no alpha is chosen."""
        if any(run_id in self._members for run_id in run_ids):
            return np.array([self._lengths_of_half(self._expanded([run_id])).mean() for run_id in run_ids])
        frames = [self._rows_of("preferences")[run_id] for run_id in run_ids]
        halves = [~stats.choosing_half(frame["instruction"].tolist()) for frame in frames]
        return np.array([frame["length"][half].mean() for frame, half in zip(frames, halves, strict=True)])

    def _derive(self, name: str, run_id: str) -> float:
        if name not in DERIVED:
            return _NAN
        frame, measure = DERIVED[name]
        rows = self._rows_of(frame).get(run_id)
        return _NAN if rows is None else measure(rows)

    def _rows_of(self, frame: str) -> dict[str, pd.DataFrame]:
        """A frame of the runs, split by run once."""
        if frame not in self._by_run:
            groups = getattr(self.runs, frame).groupby("run_id")
            self._by_run[frame] = {str(run_id): rows for run_id, rows in groups}
        return self._by_run[frame]


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> Array:
    """Columns of numbers (I, R), NaN for a name that the frame does not have."""
    places = frame.columns.get_indexer(pd.Index(list(names), dtype=str))
    return np.where(places >= 0, frame.to_numpy()[:, places], _NAN) if len(frame) else np.empty((0, len(names)))


def _choosing(wins: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows of `Measures.wins` belong to the half of the instructions on which alpha is chosen."""
    return stats.choosing_half([str(key[0]) for key in wins.index])
