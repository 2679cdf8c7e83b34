"""Which of the papers' numbers these runs can be compared with, and whether they point the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.render.table import Column, Published, Table, Value, number_of
from analysis.sources.runs import Runs
from analysis.study.comparable import BASELINE
from analysis.study.metrics import metric
from analysis.study.published import of_tables, published
from analysis.tables.build import PUBLISHED, build
from analysis.tables.layout import TableLayout
from analysis.tables.layouts import LAYOUTS
from harness.metrics.names import WIN_RATE

_HEADS = (
    Column("numbers in the paper", decimals=0),
    Column("with runs of ours", decimals=0),
    Column("same direction as the paper", is_text=True),
    Column("win rates: mean distance", "points", 1),
)


@dataclass(frozen=True)
class Pair:
    """A paper's number with ours (None: nothing was run), and its position."""

    column: str
    labels: dict[str, str]
    ours: float | None
    theirs: float

    @property
    def is_win_rate(self) -> bool:
        return self.column.endswith(f":{metric(WIN_RATE).header}{PUBLISHED}")


def checklist(runs: Runs) -> list[Table]:
    """A row per published table: how much of it was run, and each noise's direction compared with the paper's.

    Direction: the sign of the difference to no noise in the same table, whatever its size; a coin would agree half of
    the time. The papers' judges and models are rarely ours, so the distance is only for orientation.

    Raises:
        ValueError: there is no finished run.
    """
    table = Table("checklist", "Published numbers and these runs", ["table"], list(_HEADS))
    for layout in (layout for layout in LAYOUTS.values() if layout.name in layout.published):
        pairs = [pair for each in build(runs, layout) for pair in _pairs(each)]
        table.rows.append(([layout.name], _cells(layout, pairs)))
    table.notes.append("same direction: of the differences to no noise that both the paper and we have, by sign alone")
    for key in ("model", "judge"):
        ours = ", ".join(sorted(runs.runs[key].unique()))
        theirs = ", ".join(sorted(set(published()[key]) - {""}))
        table.notes.append(f"{key}: here {ours}; in the papers {theirs}")
    return [table]


def _pairs(table: Table) -> Iterator[Pair]:
    for place, column in enumerate(table.columns):
        for labels, values in table.rows:
            value = values[place]
            if isinstance(value, Published):
                ours = number_of(values[place - 1])
                known = None if ours is None or np.isnan(ours) else ours
                named = dict(zip(table.labels, labels, strict=True))
                yield Pair(f"{column.group}:{column.header}", named, known, value.value)


def _cells(layout: TableLayout, pairs: list[Pair]) -> list[Value]:
    """A published number counts once, in however many of our tables it appears."""
    found = [pair for pair in pairs if pair.ours is not None]
    run = {(pair.column, *(v for k, v in pair.labels.items() if k != "alpha"), pair.theirs) for pair in found}
    agreeing = list(_agreements(layout, found))
    said = f"{sum(agreeing)} of {len(agreeing)}" if agreeing else ""
    rates = [pair for pair in found if pair.is_win_rate]
    gaps = [abs(pair.ours - pair.theirs) for pair in rates if pair.ours is not None]
    distance: Value = float(np.mean(gaps)) if gaps else ""
    return [float(len(of_tables((layout.name,)))), float(len(run)), said, distance]


def _agreements(layout: TableLayout, pairs: list[Pair]) -> Iterator[bool]:
    """For each noise with a baseline in the paper and here: whether both effects have the same sign."""
    for pair in pairs:
        if pair.labels.get("noise") in (BASELINE, None):
            continue
        fixed = {key: pair.labels[key] for key in layout.rows if key not in ("noise", "alpha") and "noise." not in key}
        for base in pairs:
            same = base.column == pair.column and all(base.labels[key] == label for key, label in fixed.items())
            if same and base.labels["noise"] == BASELINE and pair.ours is not None and base.ours is not None:
                ours, theirs = pair.ours - base.ours, pair.theirs - base.theirs
                if ours and theirs:
                    yield bool(np.sign(ours) == np.sign(theirs))
                break
