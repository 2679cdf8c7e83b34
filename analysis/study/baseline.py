"""Which row a row is compared with, and which runs of both."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.study.comparable import BASELINE, BUDGET, plain_name
from analysis.study.rows import Row

Pairs = tuple[list[str], list[str]]


def is_compared(row: Row, baseline: str) -> bool:
    """The row is one of a noise other than the baseline."""
    return _name(row) not in (baseline, None)


def pairs(rows: Sequence[Row], row: Row, group: str, baseline: str) -> Pairs | None:
    """Run ids of this row's cell and of its baseline's by common seed; None where there is nothing to compare."""
    base = _baseline_row(rows, row, group, baseline) if is_compared(row, baseline) else None
    if base is None:
        return None
    ours, theirs = row.cell(group).by_seed, base.cell(group).by_seed
    seeds = [seed for seed in ours if seed in theirs]
    return ([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if seeds else None


def _baseline_row(rows: Sequence[Row], row: Row, group: str, baseline: str) -> Row | None:
    """The baseline's row that differs in nothing but noise, and alpha if the baseline has none.

    Of several with that noise the one with the settings that this row's noise says, else the one that says none.
    """
    free = ("noise", "alpha") if baseline == BASELINE else ("noise",)
    noises_own = {*free, BUDGET, *(key for key in row.labels if key.startswith("noise."))}
    fixed = {key: label for key, label in row.labels.items() if key not in noises_own}
    named = [each for each in rows if _name(each) == baseline and each.matches(fixed)]
    found = [each for each in named if each.cell(group).by_seed]
    alike = [each for each in found if _details(each) == _details(row)]
    plain = [each for each in found if not _details(each)]
    return next((some[0] for some in (alike, plain, found) if len(some) == 1), None)


def _name(row: Row) -> str | None:
    return plain_name(row.labels["noise"]) if "noise" in row.labels else None


def _details(row: Row) -> str:
    """What a label says beyond its name: "length=padded" of "neftune (length=padded)"."""
    return row.labels["noise"].partition(" (")[2]
