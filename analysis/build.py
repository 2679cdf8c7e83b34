"""From runs to tables: cells with intervals, differences to the baseline, published numbers beside ours.

A table never averages over anything but seeds: runs that differ in a setting that it does not show (model, data,
judge, recipe ...) go into tables of their own, with that setting in the title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from analysis import stats
from analysis.columns import TOGETHER, WIN_RATE, metric, unit_of_difference, with_companions
from analysis.layout import Layout
from analysis.measures import Measures
from analysis.notes import (
    PAIRS,
    choice_note,
    comparisons,
    interval_note,
    mean_note,
    pairing_note,
    power_notes,
    published_note,
    relative_note,
    uncompared_note,
    uncontrolled_note,
    unjudged_note,
    unrecorded_note,
)
from analysis.pairs import Pairs, is_compared, pairs
from analysis.published import of_tables
from analysis.rows import MEAN, Cell, Row, averaged_groups, groups_of, published_labels, rows_of
from analysis.runs import Runs
from analysis.settings import Part, settings_of, split
from analysis.stats import Estimate
from analysis.tables import Column, Published, Table, Value, sort_labels

# Percent: an interval that reaches further says that two seeds are too few.
_LARGEST_CHANGE = 1000.0
# Beside a probe's figure: bounds over the examples of one run, and another mean of them.
_OF_ONE_RUN = ("/low", "/high", "/per_token", "/per_token_low", "/per_token_high")

Filled = tuple[Column, list[Value]]
Compared = dict[tuple[str, str], list[Value]]


@dataclass(frozen=True)
class Frame:
    """What every column of one table is made from."""

    layout: Layout
    measures: Measures
    part: Part
    published: pd.DataFrame
    rows: list[Row]
    groups: list[str]
    beside: dict[tuple[str, str, int], Value]


def build(runs: Runs, layout: Layout) -> list[Table]:
    """The table, once for each combination of settings that it does not show.

    Raises:
        ValueError: there is no finished run, a setting of the layout does not exist, or a metric that was asked for.
    """
    counts = runs.excluded["status"].value_counts()
    left_out = ", ".join(f"{count} {status}" for status, count in counts.items())
    if runs.runs.empty:
        raise ValueError(f"no finished run to put into a table; found: {left_out or 'none at all'}")
    measures = Measures(runs)
    if layout.by_name:
        measures.check((*layout.metrics, *layout.optional))
    parts = split(settings_of(runs), layout.shown)
    with_runs = [part for part in parts if part.finished]
    tables = [_table(_frame(layout, part, measures)) for part in with_runs]
    tables[-1].notes += [f"nothing finished with {part.title}" for part in parts if not part.finished]
    if left_out:
        tables[-1].notes.append(f"left out: {left_out}; `python -m analysis status` says why")
    return tables


def _frame(layout: Layout, part: Part, measures: Measures) -> Frame:
    published = of_tables(layout.published)
    if "dataset" not in layout.shown:
        published = published[published["dataset"].isin(["", part.shared.get("dataset", "")])]
    if layout.spread != "dataset":
        published = published[published["dataset"] != MEAN]
    rows = rows_of(layout, part, published, measures)
    beside = _beside(layout, published, rows)
    return Frame(layout, measures, part, published, rows, groups_of(layout, part, published), beside)


def _table(frame: Frame) -> Table:
    layout, shown = frame.layout, _metrics_of(frame)
    compared = {
        (name, group): [_difference(frame, name, row, group) for row in frame.rows]
        for group in frame.groups
        for name in layout.differences
        if name in shown
    }
    columns = [column for group in frame.groups for column in _group_columns(frame, group, compared)]
    rows = [(list(row.labels.values()), [values[i] for _, values in columns]) for i, row in enumerate(frame.rows)]
    part = frame.part
    title = f"{layout.title} ({part.title})" if part.shared else layout.title
    said = [
        "" if part.title == part.in_full else f"all settings of set {part.number}: {part.in_full}",
        interval_note(rows),
        unjudged_note(frame.measures, frame.rows) if WIN_RATE in shown else "",
        relative_note(layout, columns),
        pairing_note(columns),
        _uncompared_note(frame),
        *power_notes(_tested(frame, compared)),
        choice_note(frame.rows),
        mean_note(frame.rows, averaged_groups(layout, frame.published)),
        uncontrolled_note(columns),
        "" if set(shown) - set(with_companions(layout.metrics)) else unrecorded_note(layout),
        published_note(layout, frame.published),
    ]
    notes = [*layout.notes, *(note for note in said if note)]
    heads = [column for column, _ in columns]
    return Table(layout.name, title, list(layout.rows), heads, rows, notes, layout.spread or "")


def _group_columns(frame: Frame, group: str, compared: Compared) -> Iterator[Filled]:
    layout, shown = frame.layout, _metrics_of(frame)
    cells = [row.cell(group) for row in frame.rows]
    yield Column("runs", group=group), [_runs_text(cell) for cell in cells]
    if WIN_RATE in shown:
        yield Column("instructions", group=group), [_instructions_text(frame.measures, cell) for cell in cells]
    if layout.endings:
        yield Column("diverged", decimals=0, group=group), [float(cell.diverged) for cell in cells]
        yield Column("failed", decimals=0, group=group), [float(cell.failed) for cell in cells]
    for name in shown:
        yield _column(name, group), [_estimate(frame, name, cell) for cell in cells]
        theirs = _published_values(frame, name, group)
        if any(value != "" for value in theirs):
            yield replace(_column(name, group), header=f"{metric(name).header}, published", better="neither"), theirs
    for name in (name for name in layout.differences if (name, group) in compared):
        yield from _difference_columns(frame, name, group, compared)
    for name in (name for name in layout.relative if name in shown):
        header = f"{metric(name).header}, relative change to {layout.baseline}"
        known = replace(_column(name, group), header=header, unit="%", better="neither", bound="")
        column = replace(known, decimals=1, signed=True, largest=_LARGEST_CHANGE)
        changes = [_relative(frame, name, row, group) for row in frame.rows]
        if any(value != "" for value in changes):
            yield column, changes


def _metrics_of(frame: Frame) -> tuple[str, ...]:
    """The layout's metrics; of the optional ones those that a run of this table recorded."""
    run_ids = [run_id for row in frame.rows for cell in row.cells.values() for run_id in cell.run_ids]
    known = frame.measures.known(run_ids)
    known = sorted((name for name in known if not name.endswith(_OF_ONE_RUN)), key=_by_number)
    found = [name for pattern in frame.layout.optional for name in known if fnmatchcase(name, pattern)]
    return with_companions(tuple(dict.fromkeys([*frame.layout.metrics, *found])))


def _by_number(name: str) -> tuple[tuple[int, float, str], ...]:
    """Sorting key of a metric's name: probe/curvature/rademacher/15 before probe/curvature/rademacher/100."""
    return sort_labels(name.split("/"))


def _column(name: str, group: str) -> Column:
    known = metric(name)
    bound = "win rate and length" if name in TOGETHER else ""
    return Column(known.header, known.unit, known.decimals, group=group, better=known.better, bound=bound)


def _instructions_text(measures: Measures, cell: Cell) -> str:
    """How many instructions an interval of the win rate counts: those with a verdict in every run of the cell."""
    found = len(measures.wins(cell.run_ids, cell.half)) if cell.run_ids else 0
    return str(found) if found else ""


def _runs_text(cell: Cell) -> str:
    """How many finished; those that could not are never passed over in silence."""
    lost = ", ".join(
        f"{count} {word}" for count, word in ((cell.diverged, "diverged"), (cell.failed, "failed")) if count
    )
    return f"{len(cell.by_seed)} ({lost})" if lost else f"{len(cell.by_seed)}"


def _estimate(frame: Frame, name: str, cell: Cell) -> Value:
    if not cell.by_seed:
        return None
    return frame.measures.estimate(name, cell.run_ids, cell.half)


# Comparison with the baseline


def _pairs(frame: Frame, row: Row, group: str) -> Pairs | None:
    return pairs(frame.layout, frame.rows, row, group)


def _difference(frame: Frame, name: str, row: Row, group: str) -> Value:
    both = _pairs(frame, row, group)
    return frame.measures.difference(name, *both, row.cell(group).half) if both else ""


def _relative(frame: Frame, name: str, row: Row, group: str) -> Value:
    both = _pairs(frame, row, group)
    return frame.measures.relative(name, *both, row.cell(group).half) if both else ""


def _difference_columns(frame: Frame, name: str, group: str, compared: Compared) -> Iterator[Filled]:
    if all(value == "" for values in compared.values() for value in values):
        return
    known, found = metric(name), compared[name, group]
    unit = unit_of_difference(name)
    header = f"{known.header} - {frame.layout.baseline}"
    yield Column(header, unit, known.decimals, signed=True, group=group, bound=header), found
    tested = _tested(frame, compared)
    of = f", {known.header}" if len({other for other, _ in compared}) > 1 else ""
    counted: list[Value] = [_counted(frame, name, row.cell(group), v) for row, v in zip(frame.rows, found, strict=True)]
    if any(counted):
        yield Column(f"{PAIRS}{of}", group=group, bound=header), counted
    yield Column(f"p (Holm){of}", smallest=0.001, group=group, bound=header), _adjusted(tested)[name, group]
    if frame.layout.bootstrap and name == WIN_RATE:
        rows = [(row, _pairs(frame, row, group)) for row in frame.rows]
        resampled: list[Value] = [
            frame.measures.bootstrapped(*both, row.cell(group).half) if both else "" for row, both in rows
        ]
        yield Column(f"{header}, bootstrap", unit, known.decimals, signed=True, group=group), resampled
    if frame.layout.detectable:
        level = stats.LEVEL / max(1, comparisons(tested))
        used = tested[name, group]
        sizes: list[Value] = [stats.detectable(v, level=level) if isinstance(v, Estimate) else "" for v in used]
        yield Column(f"detectable{of}", unit, known.decimals, group=group), sizes


def _counted(frame: Frame, name: str, cell: Cell, difference: Value) -> str:
    """What a difference rests on, where that is less than its row has: runs, and instructions for a win rate."""
    if not isinstance(difference, Estimate):
        return ""
    items = len(frame.measures.wins(cell.run_ids, cell.half)) if name == WIN_RATE else 0
    if (difference.runs, difference.instructions) == (len(cell.by_seed), items):
        return ""
    return f"{difference.runs} × {difference.instructions}" if difference.instructions else f"{difference.runs}"


def _uncompared_note(frame: Frame) -> str:
    """Rows with runs that no difference could be made for."""
    layout = frame.layout
    if not (layout.differences or layout.relative):
        return ""
    places = [(row, group) for row in frame.rows for group in frame.groups if is_compared(layout, row)]
    lone = [(row, group) for row, group in places if row.cell(group).by_seed and not _pairs(frame, row, group)]
    return uncompared_note(layout, lone, len(lone) == sum(bool(row.cell(group).by_seed) for row, group in places))


def _tested(frame: Frame, compared: Compared) -> Compared:
    """The comparisons as they are tested: without those of an alpha that the same instructions chose."""
    return {
        (name, group): _with_shared_scatter(
            ["" if row.cell(group).is_best else v for row, v in zip(frame.rows, values, strict=True)]
        )
        for (name, group), values in compared.items()
    }


def _with_shared_scatter(values: list[Value]) -> list[Value]:
    shared = iter(stats.with_shared_scatter([value for value in values if isinstance(value, Estimate)]))
    return [next(shared) if isinstance(value, Estimate) else value for value in values]


def _adjusted(compared: Compared) -> Compared:
    """p-values after Holm over all comparisons of the table."""
    keys = [(key, i) for key, values in compared.items() for i in range(len(values))]
    found = [compared[key][i] for key, i in keys]
    p_values = np.array([stats.p_value(v) if isinstance(v, Estimate) else np.nan for v in found])
    result: Compared = {key: [""] * len(values) for key, values in compared.items()}
    for (key, i), value, p in zip(keys, found, stats.holm(p_values), strict=True):
        result[key][i] = "" if value == "" else float(p)
    return result


# Published numbers


def _published_values(frame: Frame, name: str, group: str) -> list[Value]:
    """For each row the paper's number for this metric and group, or nothing."""
    return [frame.beside.get((name, group, row), "") for row in range(len(frame.rows))]


def _beside(layout: Layout, published: pd.DataFrame, rows: Sequence[Row]) -> dict[tuple[str, str, int], Value]:
    """Published numbers by metric, group and place of the row that they stand in."""
    found: dict[tuple[str, str, int], Value] = {}
    records = published.to_dict("records")
    for record, labels in zip(records, published_labels(layout, published, rows), strict=True):
        group = str(record[layout.spread]) if layout.spread in record else ""
        value = Published(record["value"], record["recalled"] == "yes")
        places = [i for i, row in enumerate(rows) if row.matches(labels)]
        found |= {(record["metric"], group, place): value for place in places}
    return found
