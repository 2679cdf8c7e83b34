"""Tables and figures for a notebook: made by name, shown as HTML if possible and else as text."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.render.formats import render
from analysis.render.table import Table
from analysis.sources.runs import Runs, made_of_readable
from analysis.study.measures import Measures
from analysis.tables.build import build
from analysis.tables.computed.registry import COMPUTED
from analysis.tables.layouts import custom_layout, layout_named
from harness.metrics.names import WIN_RATE

MOST = 4  # most sets of runs shown by default, for a study with many other settings


class Shown(list[Table]):
    """Tables that a notebook displays as HTML, the largest of many."""

    def _repr_html_(self) -> str:
        return render(_largest(self), "html")

    def __str__(self) -> str:
        return render(self, "text")

    __repr__ = __str__


def _largest(tables: Sequence[Table]) -> list[Table]:
    """The tables with the most rows; a note below the last one counts the others."""
    shown = sorted(tables, key=lambda each: -len(each.rows))[:MOST]
    if rest := len(tables) - len(shown):
        note = f"{rest} more tables, one for each other set of runs, are not shown here; print() shows all"
        shown[-1] = replace(shown[-1], notes=[*shown[-1].notes, note])
    return shown


def table(runs: Runs, name: str = "ablation") -> Shown:
    """The table of that name (see `python -m analysis table list`), once for each set of runs that may be compared.

    Raises:
        ValueError: there is no such table, or no finished run.
    """
    return Shown(made_of_readable(runs, lambda runs: build(runs, layout_named(name))))


def custom(
    runs: Runs,
    rows: Iterable[str] = ("noise", "alpha"),
    columns: str | None = None,
    metrics: Iterable[str] = (),
    differences: Iterable[str] = (),
) -> Shown:
    """A table by names: settings for the rows, one to spread over columns, metrics or patterns (probe/*).

    differences: the metrics to compare with no noise, paired by seed. Metrics that no run has are named below the
    table, so that a notebook works for any source.

    Raises:
        ValueError: a setting does not exist, or there is no finished run.
    """
    measures = Measures(runs)
    asked = list(metrics) or [WIN_RATE]
    known = [name for name in asked if measures.has(name)]
    missing = [name for name in asked if name not in known]
    if not known and not runs.runs.empty:
        return Shown(
            [Table("custom", "Not measured for these runs", ["metric"], [], [([name], []) for name in missing])]
        )
    compared = [name for name in differences if name in known]
    tables = build(runs, custom_layout(",".join(rows), columns, ",".join(known), ",".join(compared) or None))
    if missing:
        tables[-1].notes.append(f"not measured for these runs: {', '.join(missing)}")
    return Shown(tables)


def claims(runs: Runs) -> Shown:
    """What each paper claims, and what these runs say about it."""
    return Shown(made_of_readable(runs, COMPUTED["claims"].make))


def checklist(runs: Runs) -> Shown:
    """The papers' numbers next to those of these runs."""
    return Shown(made_of_readable(runs, COMPUTED["checklist"].make))


def flatness(runs: Runs) -> Shown:
    """How much a noise's result depends on alpha."""
    return Shown(made_of_readable(runs, COMPUTED["flatness"].make))


def length_gain(runs: Runs) -> Shown:
    """How much of a gain in win rate comes with longer answers."""
    return Shown(made_of_readable(runs, COMPUTED["length_gain"].make))


@dataclass(frozen=True)
class Pictures:
    """Figures that a notebook displays, each an SVG with its caption; without HTML, only the captions."""

    parts: list[tuple[str, str]]

    def _repr_html_(self) -> str:
        return "".join(
            f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>" for svg, caption in self.parts
        )

    def __str__(self) -> str:
        return "\n".join(caption for _, caption in self.parts)

    __repr__ = __str__


def draw_figures(runs: Runs, *names: str, most: int | None = MOST) -> Pictures:
    """Figures by name (see `python -m analysis figures --only list`) of the largest sets of runs; needs matplotlib.

    Raises:
        ValueError: there is no such figure, or no finished run.
    """
    from analysis.figures import Drawing, draw

    found = list(draw(runs, names, most))
    drawn = [(each.svg(), each.caption) for each in found if isinstance(each, Drawing)]
    missing = Counter((each.kind, each.reason) for each in found if not isinstance(each, Drawing))
    said = [f"{kind}: not drawn for {count} of the sets of runs: {reason}" for (kind, reason), count in missing.items()]
    return Pictures([*drawn, *(("", line) for line in said)])
