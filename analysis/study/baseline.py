"""Pairs of runs: which row is the baseline of a row, and which runs of both share a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.stats import Array
from analysis.study.comparable import BASELINE, BUDGET, plain_name
from analysis.study.rows import Cell, TableRow


class Pairs(NamedTuple):
    """Run ids of a treatment and its control; entry i of both has the same seed."""

    treatment: list[str]
    control: list[str]


def by_seed(treatment: Cell, control: Cell) -> Pairs | None:
    """The runs of both cells with common seeds; None if there are none."""
    seeds = [seed for seed in treatment.by_seed if seed in control.by_seed]
    if not seeds:
        return None
    return Pairs([treatment.by_seed[seed] for seed in seeds], [control.by_seed[seed] for seed in seeds])


def paired(
    runs: pd.DataFrame, metric: str, treatment: Mapping[str, object], control: Mapping[str, object], item: str = ""
) -> tuple[Array, Array]:
    """A metric of treatment and control, in any frame with a column `seed`, matched by seed.

    Args:
        runs: one row per run, or per run and item.
        metric: the column that holds the numbers.
        treatment, control: the settings of each, by column: {"noise": "symnoise", "alpha": 5.0}.
        item: the column that names an item of a run (an instruction, an example), if a run has several rows.

    Returns:
        Two arrays (S,), or (S, I) with `item`, for the seeds that both have, in the order of the seeds; empty without
        a common seed.

    Raises:
        ValueError: a seed has two rows of the same settings and item.
    """
    sides = [_by_seed_and_item(runs, metric, settings, item) for settings in (treatment, control)]
    seeds = sides[0].index.intersection(sides[1].index)
    first, second = (side.loc[seeds].to_numpy(float) for side in sides)
    return (first, second) if item else (first[:, 0], second[:, 0])


def _by_seed_and_item(runs: pd.DataFrame, metric: str, settings: Mapping[str, object], item: str) -> pd.DataFrame:
    rows = runs[runs[metric].notna()]
    for column, value in settings.items():
        rows = rows[rows[column] == value]
    rows = rows.assign(**{item or "item": rows[item] if item else ""})
    if rows.duplicated(["seed", item or "item"]).any():
        raise ValueError(f"{metric}: two rows of one seed have {dict(settings)}; name more settings")
    return rows.pivot(index="seed", columns=item or "item", values=metric)


def is_compared(row: TableRow, baseline: str) -> bool:
    """Whether the row is of a noise other than the baseline."""
    return _name(row) not in (baseline, None)


def baseline_pairs(rows: Sequence[TableRow], row: TableRow, group: str, baseline: str) -> Pairs | None:
    """The runs of this row's cell and of its baseline's; None if there is nothing to compare."""
    base = baseline_row(rows, row, group, baseline) if is_compared(row, baseline) else None
    return by_seed(row.cell(group), base.cell(group)) if base else None


def baseline_row(rows: Sequence[TableRow], row: TableRow, group: str, baseline: str) -> TableRow | None:
    """The baseline's row that differs only in noise (and in alpha, if the baseline has none).

    Of several with that noise, the one with the settings that this row's noise names, else the one that names none.
    """
    free = ("noise", "alpha") if baseline == BASELINE else ("noise",)
    noises_own = {*free, BUDGET, *(key for key in row.labels if key.startswith("noise."))}
    fixed = {key: label for key, label in row.labels.items() if key not in noises_own}
    named = [each for each in rows if _name(each) == baseline and each.matches(fixed)]
    found = [each for each in named if each.cell(group).by_seed]
    alike = [each for each in found if _details(each) == _details(row)]
    plain = [each for each in found if not _details(each)]
    return next((some[0] for some in (alike, plain, found) if len(some) == 1), None)


def _name(row: TableRow) -> str | None:
    return plain_name(row.labels["noise"]) if "noise" in row.labels else None


def _details(row: TableRow) -> str:
    """The details in a label: "length=padded" of "neftune (length=padded)"."""
    return row.labels["noise"].partition(" (")[2]
