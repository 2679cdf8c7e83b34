"""Tables and figures for a notebook: made by name, shown as HTML where that is possible and as text elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.build import build
from analysis.layouts import custom_layout, layout_named
from analysis.render import render
from analysis.runs import Runs
from analysis.tables import Table


class Shown(list[Table]):
    """Tables that a notebook displays as HTML."""

    def _repr_html_(self) -> str:
        return render(self, "html")

    def __str__(self) -> str:
        return render(self, "text")

    __repr__ = __str__


def table(runs: Runs, name: str = "ablation") -> Shown:
    """The table of that name (see `python -m analysis table list`), once for each set of runs that may be compared.

    Raises:
        ValueError: there is no such table, or no finished run.
    """
    return Shown(build(runs, layout_named(name)))


def custom(
    runs: Runs, rows: Iterable[str] = ("noise", "alpha"), columns: str | None = None, metrics: Iterable[str] = ()
) -> Shown:
    """A table by names: settings for the rows, one to spread over columns, metrics or patterns (probe/*).

    Raises:
        ValueError: a setting does not exist, or there is no finished run.
    """
    return Shown(build(runs, custom_layout(",".join(rows), columns, ",".join(metrics) or None)))


@dataclass(frozen=True)
class Pictures:
    """Figures that a notebook displays, each an SVG with its caption; captions alone where there is no HTML."""

    parts: list[tuple[str, str]]

    def _repr_html_(self) -> str:
        return "".join(
            f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>" for svg, caption in self.parts
        )

    def __str__(self) -> str:
        return "\n".join(caption for _, caption in self.parts)

    __repr__ = __str__


def figures(runs: Runs, *names: str) -> Pictures:
    """Figures by name (see `python -m analysis figures --only list`); needs matplotlib.

    Raises:
        ValueError: there is no such figure, or no finished run.
    """
    from analysis.figures import Drawing, draw

    return Pictures(
        [
            (each.svg(), each.caption) if isinstance(each, Drawing) else ("", f"{each.name}: {each.reason}")
            for each in draw(runs, names)
        ]
    )
