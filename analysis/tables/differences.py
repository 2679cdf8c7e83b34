"""Comparison with the baseline: paired differences, p-values corrected over the table, detectable effects."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from analysis import stats
from analysis.render.table import Column, Value
from analysis.stats import Estimate
from analysis.study.baseline import Pairs, baseline_pairs, baseline_row, is_compared
from analysis.study.metrics import metric, unit_of_difference
from analysis.study.rows import Cell, TableRow
from analysis.study.verdicts import Comparison, decide
from analysis.tables.context import Compared, Filled, TableContext
from analysis.tables.notes import PAIRS, comparisons, uncompared_note
from harness.metrics.names import WIN_RATE


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
            stats.minimum_detectable_effect(v, level=level) if isinstance(v, Estimate) else ""
            for v in used[name, group]
        ]
        most = 100.0 if unit == "points" else math.inf  # few seeds: no share can differ by more
        yield Column(f"minimum detectable effect{of}", unit, known.decimals, group=group, largest=most), sizes
    if context.layout.verdicts:
        yield Column(f"verdict{of}", is_text=True, group=group), _verdicts(context, used)[name, group]


def _counted(context: TableContext, name: str, cell: Cell, difference: Value) -> str:
    """The runs (and for a win rate, instructions) behind a difference, if fewer than those of its row."""
    if not isinstance(difference, Estimate):
        return ""
    items = len(context.measures.items(name, cell.run_ids, cell.half))
    if (difference.runs, difference.instructions) == (len(cell.by_seed), items):
        return ""
    return f"{difference.runs} × {difference.instructions}" if difference.instructions else f"{difference.runs}"


def lone_rows_note(context: TableContext) -> str:
    """Rows with runs for which there is no difference."""
    layout = context.layout
    if not (layout.differences or layout.relative):
        return ""
    places = [(row, group) for row in context.rows for group in context.groups if is_compared(row, layout.baseline)]
    lone = [(row, group) for row, group in places if row.cell(group).by_seed and not _pairs(context, row, group)]
    return uncompared_note(layout, lone, len(lone) == sum(bool(row.cell(group).by_seed) for row, group in places))


def tested(context: TableContext, compared: Compared) -> Compared:
    """The comparisons to test: without those of an alpha chosen on the same instructions."""
    return {
        (name, group): _with_shared_scatter(
            context, group, ["" if row.cell(group).is_best else v for row, v in zip(context.rows, values, strict=True)]
        )
        for (name, group), values in compared.items()
    }


def _with_shared_scatter(context: TableContext, group: str, values: list[Value]) -> list[Value]:
    """The control of each row; rows with the same control share the scatter of seeds."""
    places = [place for place, value in enumerate(values) if isinstance(value, Estimate)]
    estimates = [value for value in values if isinstance(value, Estimate)]
    controls = [tuple(_control(context, context.rows[place], group)) for place in places]
    shared = dict(zip(places, stats.with_shared_scatter(estimates, controls), strict=True))
    return [shared.get(place, value) for place, value in enumerate(values)]


def _control(context: TableContext, row: TableRow, group: str) -> list[str]:
    """The runs of the baseline's whole cell, whichever of its seeds the row has."""
    base = baseline_row(context.rows, row, group, context.layout.baseline)
    return base.cell(group).run_ids if base else []


def _verdicts(context: TableContext, used: Compared) -> Compared:
    """The verdict of every comparison that is tested."""
    keys = [(key, i) for key, values in used.items() for i, value in enumerate(values) if isinstance(value, Estimate)]
    comparisons = []
    for (name, group), i in keys:
        both, value = _pairs(context, context.rows[i], group), used[name, group][i]
        assert both
        assert isinstance(value, Estimate)
        control = float(context.measures.of_runs(name, both.control).mean())
        comparisons.append(Comparison(name, value, control))
    found: Compared = {key: [""] * len(values) for key, values in used.items()}
    for (key, i), decision in zip(keys, decide(comparisons), strict=True):
        found[key][i] = str(decision)
    return found


def _adjusted(compared: Compared) -> Compared:
    """p-values after Holm over all comparisons of the table."""
    keys = [(key, i) for key, values in compared.items() for i in range(len(values))]
    found = [compared[key][i] for key, i in keys]
    p_values = np.array([stats.p_value(v) if isinstance(v, Estimate) else np.nan for v in found])
    result: Compared = {key: [""] * len(values) for key, values in compared.items()}
    for (key, i), value, p in zip(keys, found, stats.holm(p_values), strict=True):
        result[key][i] = "" if value == "" else float(p)
    return result
