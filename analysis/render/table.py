"""The data model of a table, ready for any format: cells, columns, tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from analysis.stats import Estimate
from analysis.study.metrics import Better


@dataclass(frozen=True)
class Column:
    """Header, unit and number format of one column (decimals None: four significant digits).

    group: the header above it, if any. bound: adjacent columns with the same name here are never separated.
    smallest, largest: numbers beyond are printed as "<smallest", ">largest". is_text: aligned left.
    """

    header: str
    unit: str = ""
    decimals: int | None = 3
    signed: bool = False
    group: str = ""
    smallest: float = 0.0
    largest: float = math.inf
    better: Better = "neither"
    is_text: bool = False
    bound: str = ""

    @property
    def title(self) -> str:
        """Header with unit and an arrow for the better direction."""
        arrow = {"higher": "↑", "lower": "↓", "neither": ""}[self.better]
        return (f"{self.header} ({self.unit})" if self.unit else self.header) + arrow

    def number(self, value: float, signed: bool | None = None) -> str:
        """One number without its unit."""
        form = ".4g" if self.decimals is None else f".{self.decimals}f"
        if abs(value) < self.smallest:
            return f"<{self.smallest:{form}}"
        if value > self.largest:
            return f">{self.largest:g}"
        if self.decimals is not None:
            value = round(value, self.decimals) + 0.0  # never a negative zero
        return f"{value:{'+' if (self.signed if signed is None else signed) else ''}{form}}"


@dataclass(frozen=True)
class Published:
    """A paper's number, printed with the digits that the paper gives; `recalled` if it could not be re-read."""

    text: str
    recalled: bool = False

    @property
    def value(self) -> float:
        return float(self.text)


# Text is printed unchanged. None: nothing was run for this cell. NaN: there are runs, but the number is not defined
# or was not measured for them.
Value = Estimate | Published | float | str | None


@dataclass
class Table:
    """`labels` are the headers of the leading columns, which name a row; a row is its labels and a value per column.

    spread: the setting behind the columns' groups, if they have any.
    """

    name: str
    title: str
    labels: list[str]
    columns: list[Column]
    rows: list[tuple[list[str], list[Value]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spread: str = ""


def stacked(table: Table) -> Table:
    """Stack groups of columns instead of putting them side by side, named in a first label, without empty rows."""
    groups = list(dict.fromkeys(column.group for column in table.columns))
    if groups == [""]:
        return table
    heads = list(dict.fromkeys(replace(column, group="") for column in table.columns))
    rows = []
    for group in groups:
        places = {replace(c, group=""): i for i, c in enumerate(table.columns) if c.group == group}
        for labels, values in table.rows:
            found: list[Value] = [values[places[head]] if head in places else "" for head in heads]
            if any(value not in (None, "", "0") for value in found):
                rows.append(([group, *labels], found))
    return replace(table, labels=[table.spread, *table.labels], columns=heads, rows=rows)


def number_of(value: Value) -> float | None:
    """The number of a cell without its interval; None for text and for a cell without runs."""
    if isinstance(value, Estimate):
        return value.mean
    if isinstance(value, Published):
        return value.value
    return None if isinstance(value, str) else value


def is_undefined(value: Value) -> bool:
    """Whether there are runs but no such number."""
    number = number_of(value)
    return number is not None and math.isnan(number)
