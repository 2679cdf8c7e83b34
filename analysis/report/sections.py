"""Tables and figures as parts of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup

from analysis.figures import FIGURES, Drawing, NotDrawn, draw
from analysis.render.formats import render
from analysis.render.table import Table, stacked
from analysis.report.svg import inline
from analysis.sources.runs import Runs
from analysis.tables.build import build
from analysis.tables.computed.per_study import NOTHING
from analysis.tables.computed.registry import COMPUTED
from analysis.tables.layouts import LAYOUTS

_TABLES = (
    *("verdicts", "ablation", "differences", "claims", "flatness", "length_gain", "compute_matched", "noise_types"),
    *("overhead", "probes"),
)
# Most tables shown of one kind; further ones (in a sweep over many other settings) are only counted.
_MOST_PARTS = 6
_MOST_FIGURES = 4
# What was asked first: differences, then where they come from.
_FIGURES = ("forest", *(name for name in FIGURES if name != "forest"))
# Inches that a figure is drawn at for a screen, and for a phone; page.css shows one of them.
_WIDE, _NARROW = 10.0, 3.6
_FORMATS = ("csv", "markdown", "latex")


@dataclass(frozen=True)
class TablePart:
    """One table as HTML; labels: number of leading columns that name a row; texts: the same in other formats.

    number: its number among all tables of the page.
    """

    html: Markup
    labels: int
    texts: dict[str, str]
    number: int


@dataclass(frozen=True)
class TableSection:
    """All tables of one layout; more: how many of them are not shown."""

    name: str
    title: str
    parts: list[TablePart]
    more: int


@dataclass(frozen=True)
class FigurePart:
    """One figure, drawn for a screen and for a phone; caption: without the title that it begins with."""

    name: str
    title: str
    wide: Markup
    narrow: Markup
    caption: str


def table_sections(runs: Runs) -> Iterator[TableSection]:
    """The tables that this study has numbers for."""
    numbers = count()
    for name in _TABLES:
        known = COMPUTED[name] if name in COMPUTED else LAYOUTS[name]
        if known.needs.is_met(runs):
            tables = _tables(runs, name)
            # The sort is stable: tables with equally many rows keep the order of their names.
            largest = sorted(tables, key=lambda table: -len(table.rows))
            parts = [_part(table, number) for table, number in zip(largest[:_MOST_PARTS], numbers, strict=False)]
            if parts:
                yield TableSection(name, known.title, parts, max(0, len(tables) - _MOST_PARTS))


def _tables(runs: Runs, name: str) -> list[Table]:
    if name in COMPUTED:
        return [table for table in COMPUTED[name].make(runs) if NOTHING not in table.notes]
    return build(runs, LAYOUTS[name])


def figure_parts(runs: Runs) -> tuple[list[FigurePart], list[str]]:
    """Every figure for which there are numbers, and one line per reason why others are missing."""
    parts: list[FigurePart] = []
    missing: Counter[tuple[str, str]] = Counter()
    wide, narrow = (draw(runs, _FIGURES, most=_MOST_FIGURES, width=width) for width in (_WIDE, _NARROW))
    for found, small in zip(wide, narrow, strict=True):
        if isinstance(found, NotDrawn):
            missing[found.kind, found.reason] += 1
        elif isinstance(small, Drawing):
            caption = found.caption.removeprefix(f"{found.title}.")
            parts.append(FigurePart(found.name, found.title, inline(found), inline(small, "-narrow"), caption))
    return parts, [_missing_line(kind, reason, count) for (kind, reason), count in missing.items()]


def _missing_line(kind: str, reason: str, count: int) -> str:
    where = f" for {count} sets of runs" if count > 1 else ""
    return f"{kind}: not drawn{where}: {reason}"


def _part(table: Table, number: int) -> TablePart:
    texts = {form: render([table], form) for form in _FORMATS}
    return TablePart(Markup(render([table], "html")), len(stacked(table).labels), texts, number)
