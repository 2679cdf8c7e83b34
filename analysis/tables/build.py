"""From runs to tables: cells with intervals, differences to the baseline, published numbers next to ours.

A table averages over nothing but seeds: runs that differ in a setting that it does not show (model, data, judge,
recipe ...) go into separate tables, with that setting in the title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from analysis.render.table import Column, Table, Value, is_undefined
from analysis.sources.runs import Runs
from analysis.study.comparable import settings_of, split
from analysis.study.measures import Measures
from analysis.study.metrics import TOGETHER, metric, with_companions
from analysis.study.rows import Cell, averaged_groups, sort_labels
from analysis.study.search import search_note
from analysis.tables.context import Compared, Filled, TableContext, context_of, published_values
from analysis.tables.differences import difference, difference_columns, lone_rows_note, relative, tested
from analysis.tables.layout import TableLayout
from analysis.tables.notes import (
    BY_PROXY,
    bits_note,
    choice_note,
    interval_note,
    mean_note,
    pairing_note,
    power_notes,
    proxied,
    published_note,
    ratio_note,
    relative_note,
    uncontrolled_note,
    unjudged_note,
    unmeasured_note,
    unreadable_notes,
    unrecorded_note,
)
from harness.metrics.names import WIN_RATE

# The end of the header of a paper's numbers, which follow ours.
PUBLISHED = ", published"
_RATIO = "noise/ratio"
# Percent: a wider interval means that there are too few seeds.
_LARGEST_CHANGE = 1000.0
# Next to a probe's metric: bounds over the examples of one run, and another mean of them.
_OF_ONE_RUN = ("/low", "/high", "/per_token", "/per_token_low", "/per_token_high")


def build(runs: Runs, layout: TableLayout) -> list[Table]:
    """The table, once for each combination of settings that it does not show.

    Raises:
        ValueError: there is no finished run, or a setting or requested metric does not exist.
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
    tables = [_table(context_of(layout, part, measures)) for part in with_runs]
    tables[-1].notes += [f"nothing finished with {part.title}" for part in parts if not part.finished]
    if left_out:
        tables[-1].notes.append(f"left out: {left_out}; `python -m analysis status` says why")
    tables[-1].notes += unreadable_notes(runs)
    return tables


def _table(context: TableContext) -> Table:
    layout, shown = context.layout, _metrics_of(context)
    compared = {
        (name, group): [difference(context, name, row, group) for row in context.rows]
        for group in context.groups
        for name in layout.differences
        if name in shown
    }
    every = [column for group in context.groups for column in _group_columns(context, group, compared)]
    columns = every if layout.by_name else _measured(every)
    rows = [(list(row.labels.values()), [values[i] for _, values in columns]) for i, row in enumerate(context.rows)]
    part = context.part
    title = f"{layout.title} ({part.title})" if part.shared else layout.title
    said = [
        "" if part.title == part.in_full else f"all settings of set {part.number}: {part.in_full}",
        interval_note(rows),
        unjudged_note(context.measures, context.rows) if WIN_RATE in shown else "",
        bits_note(context.measures, context.rows),
        "" if _RATIO in shown else ratio_note(context.measures, context.rows),
        relative_note(layout, columns),
        pairing_note(columns),
        lone_rows_note(context),
        *power_notes(tested(context, compared)),
        search_note(context.measures.runs),
        choice_note(context.rows),
        mean_note(context.rows, averaged_groups(layout.spread, context.published)),
        unmeasured_note([column for column, _ in every if column not in [shown for shown, _ in columns]]),
        uncontrolled_note(every),
        "" if set(shown) - set(with_companions(layout.metrics)) else unrecorded_note(layout),
        published_note(layout, context.published),
    ]
    notes = [*layout.notes, *(note for note in said if note)]
    run_ids = [run_id for row in context.rows for cell in row.cells.values() for run_id in cell.run_ids]
    if WIN_RATE in shown and context.measures.is_proxy(run_ids):
        title = f"{title}, {BY_PROXY}"
        columns = [(replace(column, header=proxied(column.header)), values) for column, values in columns]
    heads = [column for column, _ in columns]
    return Table(layout.name, title, list(layout.rows), heads, rows, notes, layout.spread or "")


def _measured(columns: Sequence[Filled]) -> list[Filled]:
    """Drop columns with nothing but n/d, unless a paper's numbers belong to them."""
    following = [column for column, _ in columns[1:]]
    has_published = [column.header.endswith(PUBLISHED) for column in following] + [False]
    return [
        each for each, kept in zip(columns, has_published, strict=True) if kept or not _is_undefined_throughout(each)
    ]


def _is_undefined_throughout(column: Filled) -> bool:
    values = [value for value in column[1] if value not in (None, "")]
    return bool(values) and all(is_undefined(value) for value in values)


def _group_columns(context: TableContext, group: str, compared: Compared) -> Iterator[Filled]:
    layout, shown = context.layout, _metrics_of(context)
    cells = [row.cell(group) for row in context.rows]
    yield Column("runs", group=group), [_runs_text(cell) for cell in cells]
    if WIN_RATE in shown:
        yield Column("instructions", group=group), [_instructions_text(context.measures, cell) for cell in cells]
    if layout.endings:
        yield Column("diverged", decimals=0, group=group), [float(cell.diverged) for cell in cells]
        yield Column("failed", decimals=0, group=group), [float(cell.failed) for cell in cells]
    for name in shown:
        yield _column(name, group), [_estimate(context, name, cell) for cell in cells]
        theirs = published_values(context, name, group)
        if any(value != "" for value in theirs):
            yield replace(_column(name, group), header=f"{metric(name).header}{PUBLISHED}", better="neither"), theirs
    for name in (name for name in layout.differences if (name, group) in compared):
        yield from difference_columns(context, name, group, compared)
    for name in (name for name in layout.relative if name in shown):
        header = f"{metric(name).header}, relative change to {layout.baseline}"
        known = replace(_column(name, group), header=header, unit="%", better="neither", bound="")
        column = replace(known, decimals=1, signed=True, largest=_LARGEST_CHANGE)
        changes = [relative(context, name, row, group) for row in context.rows]
        if any(value != "" for value in changes):
            yield column, changes


def _metrics_of(context: TableContext) -> tuple[str, ...]:
    """The layout's metrics, and those optional ones that a run of this table recorded."""
    run_ids = [run_id for row in context.rows for cell in row.cells.values() for run_id in cell.run_ids]
    known = context.measures.known(run_ids)
    known = sorted((name for name in known if not name.endswith(_OF_ONE_RUN)), key=_by_number)
    found = [name for pattern in context.layout.optional for name in known if fnmatchcase(name, pattern)]
    return with_companions(tuple(dict.fromkeys([*context.layout.metrics, *found])))


def _by_number(name: str) -> tuple[tuple[int, float, str], ...]:
    """Sorting key of a metric's name: probe/curvature/rademacher/15 before probe/curvature/rademacher/100."""
    return sort_labels(name.split("/"))


def _column(name: str, group: str) -> Column:
    known = metric(name)
    bound = "win rate and length" if name in TOGETHER else ""
    return Column(known.header, known.unit, known.decimals, group=group, better=known.better, bound=bound)


def _instructions_text(measures: Measures, cell: Cell) -> str:
    """How many instructions are in an interval of the win rate: those with a verdict in every run of the cell."""
    found = len(measures.wins(cell.run_ids, cell.half)) if cell.run_ids else 0
    return str(found) if found else ""


def _runs_text(cell: Cell) -> str:
    """Number of finished runs, and of those that failed or diverged."""
    lost = ", ".join(
        f"{count} {word}" for count, word in ((cell.diverged, "diverged"), (cell.failed, "failed")) if count
    )
    return f"{len(cell.by_seed)} ({lost})" if lost else f"{len(cell.by_seed)}"


def _estimate(context: TableContext, name: str, cell: Cell) -> Value:
    if not cell.by_seed:
        return None
    return context.measures.estimate(name, cell.run_ids, cell.half)
