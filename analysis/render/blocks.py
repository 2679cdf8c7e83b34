"""A table's cells as text, in blocks of columns that fit a page or a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from analysis.render.table import Column, Published, Table, Value, is_undefined
from analysis.stats import Estimate

MISSING = "—"
UNDEFINED = "n/d"
RECALLED = "†"
ONE_RUN = "‡"
# Longest word in a header that is not broken.
_LONG_WORD = 10
_MOST_DECIMALS = 7


@dataclass(frozen=True)
class Block:
    """Columns printed side by side, the labels first.

    heads, body: rows of cells; all headers have the same number of lines. left: which columns are aligned left.
    """

    heads: list[list[str]]
    body: list[list[str]]
    left: list[bool]

    @property
    def widths(self) -> list[int]:
        """Width of each column in characters."""
        return [max(map(len, column)) for column in zip(*self.heads, *self.body, strict=True)]


def blocks(table: Table, widest: float, gap: float) -> Iterator[Block]:
    """The table in as many stacked blocks as needed, each with the labels.

    Args:
        table: its groups are named in the headers; see `analysis.render.table.stacked`.
        widest: width of a block in characters.
        gap: characters between two columns.
    """
    rows = body(table)
    titles = [*table.labels, *(column.title for column in table.columns)]
    heads = [_lines(title, max((len(row[i]) for row in rows), default=0)) for i, title in enumerate(titles)]
    left = [True] * len(table.labels) + [column.is_text for column in table.columns]
    widths = [max(len(text) for text in (*heads[i], *(row[i] for row in rows))) for i in range(len(titles))]
    for places in _pages(table, widths, widest, gap):
        height = max(len(heads[i]) for i in places)
        padded = [[""] * (height - len(heads[i])) + heads[i] for i in places]
        yield Block(
            [list(line) for line in zip(*padded, strict=True)],
            [[row[i] for i in places] for row in rows],
            [left[i] for i in places],
        )


def _pages(table: Table, widths: Sequence[int], widest: float, gap: float) -> Iterator[list[int]]:
    """The column indices of each block: the labels, and as many others as fit."""
    labels = list(range(len(table.labels)))
    page: list[int] = []
    for places in _units(table):
        if page and sum(widths[i] + gap for i in (*labels, *page, *places)) > widest:
            yield [*labels, *page]
            page = []
        page += places
    yield [*labels, *page]


def _units(table: Table) -> Iterator[list[int]]:
    """Column indices, grouped if they must stay together."""
    for bound, members in groupby(enumerate(table.columns, len(table.labels)), key=lambda each: each[1].bound):
        places = [place for place, _ in members]
        yield from [places] if bound else ([place] for place in places)


def _lines(title: str, width: int) -> list[str]:
    """A header broken into lines as wide as its column's cells, long words after their hyphens and dots."""
    words = [_pieces(word) for word in title.split()]
    width = max([width, *(len(piece) for word in words for piece in word)])
    lines = [""]
    for word in words:
        for place, piece in enumerate(word):
            longer = lines[-1] + (" " if place == 0 and lines[-1] else "") + piece
            lines = [*lines[:-1], longer] if len(longer) <= width else [*lines, piece]
    return lines


def _pieces(word: str) -> list[str]:
    return re.split(r"(?<=\w[.-])(?=\w)", word) if len(word) > _LONG_WORD else [word]


def cell_text(column: Column, value: Value) -> str:
    """A cell for a reader: mean ± half of a symmetric interval, or mean [low, high]."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if is_undefined(value):
        return UNDEFINED
    if isinstance(value, Published):
        return value.text + (RECALLED if value.recalled else "")
    if isinstance(value, float):
        return column.number(value)
    if math.isnan(value.low):
        return column.number(value.mean)
    sign = ONE_RUN if is_of_one_run(value) else ""
    column = _as_exact_as(column, value)
    mean = column.number(value.mean)
    if math.isclose(value.high - value.mean, value.mean - value.low, rel_tol=1e-6):
        return f"{mean} ± {column.number(value.high - value.mean, signed=False)}{sign}"
    return f"{mean} [{column.number(value.low)}, {column.number(value.high)}]{sign}"


def _as_exact_as(column: Column, value: Estimate) -> Column:
    """A column without a number of decimals prints two digits of the half interval, and the mean as exactly."""
    half = (value.high - value.low) / 2
    if column.decimals is not None or not half > 0:
        return column
    decimals = 1 - math.floor(math.log10(half))
    return replace(column, decimals=decimals) if 0 <= decimals <= _MOST_DECIMALS else column


def is_of_one_run(value: Value) -> bool:
    """Whether the interval is over the instructions of a single run, which says nothing about other seeds."""
    return isinstance(value, Estimate) and value.runs == 1 and not math.isnan(value.low)


def body(table: Table) -> list[list[str]]:
    return [
        [*labels, *(cell_text(column, value) for column, value in zip(table.columns, values, strict=True))]
        for labels, values in table.rows
    ]


def notes(table: Table) -> list[str]:
    values = [value for _, row in table.rows for value in row]
    said = list(table.notes)
    if any(value is None for value in values):
        said.append(f"{MISSING} not run")
    if any(is_undefined(value) for value in values):
        said.append(f"{UNDEFINED} not defined or not measured for these runs")
    if any(is_of_one_run(value) for value in values):
        said.append(f"{ONE_RUN} interval over the instructions of one run: another seed may lie outside")
    if any(isinstance(value, Published) and value.recalled for value in values):
        said.append(f"{RECALLED} recalled: this published number could not be verified in the paper")
    return said
