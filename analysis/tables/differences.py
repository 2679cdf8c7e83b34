"""Comparison with the baseline: paired differences, their p-values over the whole table, what would have been found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis import stats
from analysis.render.table import Column, Value
from analysis.stats import Estimate
from analysis.study.baseline import Pairs, baseline_pairs, is_compared
from analysis.study.metrics import WIN_RATE, metric, unit_of_difference
from analysis.study.rows import Cell, TableRow
from analysis.tables.context import Compared, Filled, TableContext
from analysis.tables.notes import PAIRS, comparisons, uncompared_note


def _pairs(context: TableContext, row: TableRow, group: str) -> Pairs | None:
    return baseline_pairs(context.rows, row, group, context.layout.baseline)


def difference(context: TableContext, name: str, row: TableRow, group: str) -> Value:
    both = _pairs(context, row, group)
    return context.measures.difference(name, *both, row.cell(group).half) if both else ""


def relative(context: TableContext, name: str, row: TableRow, group: str) -> Value:
    both = _pairs(context, row, group)
    return context.measures.relative(name, *both, row.cell(group).half) if both else ""


def difference_columns(context: TableContext, name: str, group: str, compared: Compared) -> Iterator[Filled]:
    if all(value == "" for values in compared.values() for value in values):
        return
    known, found = metric(name), compared[name, group]
    unit = unit_of_difference(name)
    header = f"{known.header} - {context.layout.baseline}"
    yield Column(header, unit, known.decimals, signed=True, group=group, bound=header), found
    used = tested(context, compared)
    of = f", {known.header}" if len({other for other, _ in compared}) > 1 else ""
    counted: list[Value] = [
        _counted(context, name, row.cell(group), v) for row, v in zip(context.rows, found, strict=True)
    ]
    if any(counted):
        yield Column(f"{PAIRS}{of}", group=group, bound=header), counted
    yield Column(f"p (Holm){of}", smallest=0.001, group=group, bound=header), _adjusted(used)[name, group]
    if context.layout.bootstrap and name == WIN_RATE:
        rows = [(row, _pairs(context, row, group)) for row in context.rows]
        resampled: list[Value] = [
            context.measures.bootstrapped(*both, row.cell(group).half) if both else "" for row, both in rows
        ]
        yield Column(f"{header}, bootstrap", unit, known.decimals, signed=True, group=group), resampled
    if context.layout.detectable:
        level = stats.LEVEL / max(1, comparisons(used))
        sizes: list[Value] = [
            stats.detectable(v, level=level) if isinstance(v, Estimate) else "" for v in used[name, group]
        ]
        yield Column(f"detectable{of}", unit, known.decimals, group=group), sizes


def _counted(context: TableContext, name: str, cell: Cell, difference: Value) -> str:
    """What a difference rests on, where that is less than its row has: runs, and instructions for a win rate."""
    if not isinstance(difference, Estimate):
        return ""
    items = len(context.measures.wins(cell.run_ids, cell.half)) if name == WIN_RATE else 0
    if (difference.runs, difference.instructions) == (len(cell.by_seed), items):
        return ""
    return f"{difference.runs} × {difference.instructions}" if difference.instructions else f"{difference.runs}"


def lone_rows_note(context: TableContext) -> str:
    """Rows with runs that no difference could be made for."""
    layout = context.layout
    if not (layout.differences or layout.relative):
        return ""
    places = [(row, group) for row in context.rows for group in context.groups if is_compared(row, layout.baseline)]
    lone = [(row, group) for row, group in places if row.cell(group).by_seed and not _pairs(context, row, group)]
    return uncompared_note(layout, lone, len(lone) == sum(bool(row.cell(group).by_seed) for row, group in places))


def tested(context: TableContext, compared: Compared) -> Compared:
    """The comparisons as they are tested: without those of an alpha that the same instructions chose."""
    return {
        (name, group): _with_shared_scatter(
            ["" if row.cell(group).is_best else v for row, v in zip(context.rows, values, strict=True)]
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
