"""The rows of a table: the runs behind each cell, and the rows that only a paper has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.stats import AlphaChoice
from analysis.study.comparable import Comparable
from analysis.study.measures import Measures

# Labels instead of an alpha: chosen on one half of the instructions and reported on the other; and the papers' way,
# the best on the reported instructions themselves.
CHOSEN, BEST = "chosen", "best on test"
# A group of columns next to those of the data sets: the mean over the paper's.
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one row and group: finished ones by seed, the others counted.

    labels: labels of its row. choice: how the alpha of these runs was chosen, if it was. is_best: whether it was chosen
    on the reported instructions, so that no test is valid.
    """

    by_seed: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    diverged: int = 0
    failed: int = 0
    choice: AlphaChoice | None = None
    is_best: bool = False

    @property
    def half(self) -> bool:
        """Whether numbers come from the half of the instructions on which alpha was not chosen."""
        return self.choice is not None and not self.is_best

    @property
    def run_ids(self) -> list[str]:
        return list(self.by_seed.values())

    @property
    def noise(self) -> str:
        return self.labels["noise"]

    @property
    def alpha(self) -> float | None:
        """None without noise."""
        return float(self.labels["alpha"]) if self.labels["alpha"] else None

    @property
    def name(self) -> str:
        """Noise and alpha, for a legend."""
        return self.noise if self.alpha is None else f"{self.noise}, α={self.alpha:g}"

    @property
    def lost(self) -> int:
        """Runs that diverged or failed."""
        return self.diverged + self.failed


EMPTY = Cell()


@dataclass(frozen=True)
class TableRow:
    """Labels by setting, and a cell for each group of columns that has runs."""

    labels: dict[str, str]
    cells: dict[str, Cell]

    def cell(self, group: str) -> Cell:
        return self.cells.get(group, EMPTY)

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether all settings that both name are equal."""
        return all(self.labels[key] == label for key, label in labels.items() if key in self.labels)


@dataclass(frozen=True)
class RowKeys:
    """The settings that define rows and groups of columns.

    rows: settings with a row per combination of values. spread: a setting with a group of columns per value.
    choose_alpha: an extra row per noise, with alpha chosen on one half of the instructions.
    """

    rows: tuple[str, ...] = ("noise", "alpha")
    spread: str | None = None
    choose_alpha: bool = False


def rows_of(keys: RowKeys, part: Comparable, published: pd.DataFrame, measures: Measures) -> list[TableRow]:
    """Our rows, rows whose alpha was chosen, rows that only the papers have, sorted by label."""
    rows = list(_our_rows(keys, part.settings))
    if keys.choose_alpha and "alpha" in keys.rows:
        rows += list(_chosen_rows(keys.rows, rows, measures))
    if names := averaged_groups(keys.spread, published):
        rows = [_with_mean(row, names, measures) for row in rows]
    for labels in published_labels(keys.rows, published, rows):
        if not any(row.matches(labels) for row in rows):
            rows.append(TableRow(_completed(labels, keys.rows, rows), {}))
    return sorted(rows, key=lambda row: sort_labels(list(row.labels.values())))


def _completed(labels: dict[str, str], keys: Sequence[str], rows: Sequence[TableRow]) -> dict[str, str]:
    """All labels of a row that only a paper has, completed from our rows of the same noise."""
    alike = [row.labels for row in rows if row.labels.get("noise") == labels.get("noise")]
    found = {key: {each[key] for each in alike if each[key]} for key in keys}
    ours = {key: values.pop() for key, values in found.items() if key.startswith("noise.") and len(values) == 1}
    return {key: labels.get(key, ours.get(key, "")) for key in keys}


def groups_of(spread: str | None, part: Comparable, published: pd.DataFrame) -> list[str]:
    """Values of the spread setting, first in the papers' order, then ours; without it, one unnamed group."""
    if spread is None:
        return [""]
    theirs = published[spread].tolist() if spread in published else []
    return list(dict.fromkeys([*theirs, *sorted(part.settings[spread].unique(), key=sort_label)]))


def averaged_groups(spread: str | None, published: pd.DataFrame) -> list[str]:
    """The groups over which the paper's mean is taken; none if it gives no mean."""
    groups = list(dict.fromkeys(published[spread])) if spread in published else []
    return [group for group in groups if group != MEAN] if MEAN in groups else []


def published_labels(keys: Sequence[str], published: pd.DataFrame, rows: Sequence[TableRow]) -> list[dict[str, str]]:
    """For each published number the labels of the corresponding row.

    If a paper gives no alpha for a noise, it is the best on its test set: our row of that kind, or the only one.
    """
    known = [key for key in keys if key in published]
    found = [{key: str(record[key]) for key in known} for record in published.to_dict("records")]
    for labels in found:
        if labels.get("alpha") == "" and labels.get("noise") not in ("none", ""):
            others = {key: label for key, label in labels.items() if key != "alpha"}
            ours = [row.labels["alpha"] for row in rows if row.matches(others)]
            labels["alpha"] = ours[0] if len(ours) == 1 else BEST
    return found


def _our_rows(keys: RowKeys, settings: pd.DataFrame) -> Iterator[TableRow]:
    for values, members in settings.groupby(list(keys.rows)):
        groups = members.groupby(keys.spread) if keys.spread else [("", members)]
        labels = dict(zip(keys.rows, map(str, values), strict=True))
        yield TableRow(labels, {str(group): _cell(runs, labels) for group, runs in groups})


def _cell(runs: pd.DataFrame, labels: dict[str, str]) -> Cell:
    finished = runs[runs["status"] == "finished"]
    by_seed = dict(sorted(zip(finished["seed"].map(str), finished.index.map(str), strict=True)))
    assert len(by_seed) == len(finished), "one run per seed: duplicates were left out, other differences split"
    counts = runs["status"].value_counts()
    return Cell(by_seed, labels, int(counts.get("diverged", 0)), int(counts.get("failed", 0)))


def _chosen_rows(keys: Sequence[str], rows: Iterable[TableRow], measures: Measures) -> Iterator[TableRow]:
    families: dict[tuple[str, ...], list[TableRow]] = {}
    for row in rows:
        families.setdefault(tuple(label for key, label in row.labels.items() if key != "alpha"), []).append(row)
    for family in families.values():
        if len(family) > 1:
            groups = sorted({group for row in family for group in row.cells})
            cells = {group: _chosen_cells(family, group, measures) for group in groups}
            for place, label in enumerate((CHOSEN, BEST)):
                labels = {key: label if key == "alpha" else family[0].labels[key] for key in keys}
                yield TableRow(labels, {group: both[place] for group, both in cells.items()})


def _chosen_cells(family: Sequence[TableRow], group: str, measures: Measures) -> tuple[Cell, Cell]:
    """Cells of the alpha that is best on the choosing half, and of the best on all; empty without verdicts.

    Alphas are compared on their common seeds: a seed that only some have would bias the choice.
    """
    known = {float(row.labels["alpha"]): row.cell(group) for row in family if row.cell(group).by_seed}
    candidates = {alpha: cell for alpha, cell in known.items() if not measures.wins(cell.run_ids).empty}
    common = set.intersection(*(set(cell.by_seed) for cell in candidates.values())) if candidates else set()
    if not common:
        return EMPTY, EMPTY
    compared = {alpha: [cell.by_seed[seed] for seed in sorted(common)] for alpha, cell in candidates.items()}
    choice = measures.choose_alpha(compared)
    if choice is None:
        return EMPTY, EMPTY
    honest, best = candidates[choice.alpha], candidates[choice.on_test]
    return replace(honest, choice=choice), replace(best, choice=choice, is_best=True)


def _with_mean(row: TableRow, names: Sequence[str], measures: Measures) -> TableRow:
    """The row with a cell for the mean over the named groups, by common seeds, if it has runs in all of them."""
    cells = [row.cell(name) for name in names]
    seeds = [seed for seed in cells[0].by_seed if all(seed in cell.by_seed for cell in cells)]
    if not seeds:
        return row
    by_seed = {seed: measures.together([cell.by_seed[seed] for cell in cells]) for seed in seeds}
    diverged, failed = sum(cell.diverged for cell in cells), sum(cell.failed for cell in cells)
    mean = replace(cells[0], by_seed=by_seed, diverged=diverged, failed=failed)
    return replace(row, cells={**row.cells, MEAN: mean})


def sort_labels(labels: Sequence[str]) -> tuple[tuple[int, float, str], ...]:
    """Sorting key: numbers by size, no noise before other names."""
    return tuple(sort_label(label) for label in labels)


def sort_label(label: str) -> tuple[int, float, str]:
    """Sorting key of one label, see `sort_labels`."""
    try:
        return (0, float(label), "")
    except ValueError:
        return (0 if label == "" else 1, -math.inf if label in ("", "none") else 0.0, label)
