"""The input of every column of one table: its rows, their runs, and the papers' numbers for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.render.table import Column, Published, Value
from analysis.study.comparable import Comparable
from analysis.study.measures import Measures
from analysis.study.published import of_tables
from analysis.study.rows import MEAN, TableRow, groups_of, published_labels, rows_of
from analysis.tables.layout import TableLayout

# A column with a value for each row; and values for each row by metric and group.
Filled = tuple[Column, list[Value]]
Compared = dict[tuple[str, str], list[Value]]


@dataclass(frozen=True)
class TableContext:
    """What every column of one table is made from.

    groups: values of the layout's spread setting. beside: published numbers by metric, group and index of the row.
    """

    layout: TableLayout
    measures: Measures
    part: Comparable
    published: pd.DataFrame
    rows: list[TableRow]
    groups: list[str]
    beside: dict[tuple[str, str, int], Value]


def context_of(layout: TableLayout, part: Comparable, measures: Measures) -> TableContext:
    """The rows and published numbers of one table of comparable runs."""
    published = of_tables(layout.published)
    if "dataset" not in layout.shown:
        published = published[published["dataset"].isin(["", part.shared.get("dataset", "")])]
    if layout.spread != "dataset":
        published = published[published["dataset"] != MEAN]
    rows = rows_of(layout.keys, part, published, measures)
    beside = _beside(layout, published, rows)
    return TableContext(layout, measures, part, published, rows, groups_of(layout.spread, part, published), beside)


def published_values(context: TableContext, name: str, group: str) -> list[Value]:
    """For each row the paper's number for this metric and group, or nothing."""
    return [context.beside.get((name, group, row), "") for row in range(len(context.rows))]


def _beside(
    layout: TableLayout, published: pd.DataFrame, rows: Sequence[TableRow]
) -> dict[tuple[str, str, int], Value]:
    """Published numbers by metric, group and index of their row."""
    found: dict[tuple[str, str, int], Value] = {}
    records = published.to_dict("records")
    for record, labels in zip(records, published_labels(layout.rows, published, rows), strict=True):
        group = str(record[layout.spread]) if layout.spread in record else ""
        value = Published(record["value"], record["recalled"] == "yes")
        places = [i for i, row in enumerate(rows) if row.matches(labels)]
        found |= {(record["metric"], group, place): value for place in places}
    return found
