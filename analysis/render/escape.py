"""Makes text from models, configs and other people's files safe to show, for all tables and figures."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from analysis.render.table import Column, Published, Table, Value
from harness.record.escape import escape_controls

_ELLIPSIS = "…"


def escape_table(table: Table) -> Table:
    """The table with every text on one line and without control characters, as input to every format."""
    return replace(
        table,
        title=_line(table.title),
        labels=[_line(label) for label in table.labels],
        columns=[_column(column) for column in table.columns],
        rows=[
            ([_line(label) for label in labels], [_value(value) for value in values]) for labels, values in table.rows
        ],
        notes=[_line(note) for note in table.notes],
        spread=_line(table.spread),
    )


def _line(text: str) -> str:
    return escape_controls(text, one_line=True)


def _column(column: Column) -> Column:
    return replace(column, header=_line(column.header), unit=_line(column.unit), group=_line(column.group))


def _value(value: Value) -> Value:
    if isinstance(value, Published):
        return replace(value, text=_line(value.text))
    return _line(value) if isinstance(value, str) else value


def lines_of(name: str, width: int, most: int = 2) -> str:
    """A name for a figure: escaped, in at most `most` lines of `width` characters, the rest cut."""
    plain = " ".join(escape_controls(name).split())
    return textwrap.fill(plain, width, max_lines=most, placeholder=_ELLIPSIS, break_on_hyphens=False)
