"""Win rate by category of instruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis import stats
from analysis.figures.drawing import Drawing
from analysis.figures.study import Study, axis_label, counted
from analysis.figures.style import INK, ONE_RUN, PAPER, Look, canvas, figure_of, legend
from analysis.render.blocks import is_of_one_run
from analysis.render.escape import lines_of
from analysis.stats import Estimate
from analysis.study.rows import Cell
from harness.metrics.names import WIN_RATE

_LEAST_CATEGORIES, _ONE_COLUMN = 3, 8
_BAR, _THINNEST, _GAP, _TALLEST = 0.12, 0.06, 0.14, 11.0  # inches: a bar, the gap between categories, all of it
_CHARACTERS_PER_INCH = 4  # of a panel: what a category's name may take
_PANEL_WIDTH = 3.0  # inches
_LONG_NAME = 40  # characters of a category in a caption
_SMALL = 6  # points
_TINT = 0.55  # pale enough for the hatch to show in grey
_LEAST_SPAN = 10.0  # percent: smallest axis, so that noise around zero does not fill it
_NAN = float("nan")


def category_bars(study: Study) -> Drawing | None:
    """Bars of each noise for every category that anybody won in, the largest first; in two columns where there is room.

    Categories without a win are named in the caption. Those that a page has no room for are counted there.
    """
    cells = [cell for cell in study.chosen if not study.measures.wins(cell.run_ids).empty]
    category = _categories(study, cells)
    sizes = category.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if not cells or len(sizes) < 2:
        return None
    found = {str(name): [_estimate(study, cell, category, str(name)) for cell in cells] for name in sizes.index}
    lost = [name for name, each in found.items() if all(estimate.mean == 0 for estimate in each)]
    won = [name for name in found if name not in lost] or list(found)
    columns = 2 if len(won) > _ONE_COLUMN and study.width >= 2 * _PANEL_WIDTH else 1
    bar, most = _room(len(cells), -(-len(won) // columns))
    shown = won[: most * columns]
    rows = -(-len(shown) // columns)
    figure, panels = canvas(study.width, 1, columns, height=0.6 + rows * (_GAP + bar * len(cells)))
    handles = {
        name: handle
        for place, axes in enumerate(panels)
        for name, handle in _panel(axes, study, cells, found, shown[place * rows : (place + 1) * rows], sizes).items()
    }
    for axes in panels:
        axes.set_ylim(rows - 0.5, -0.5)  # a panel with one category less has bars as thick
        axes.set_xlim(0, min(100.0, max(_LEAST_SPAN, *(each.get_xlim()[1] for each in panels))))
    legend(figure, handles)
    left = {"lost": sizes[[name for name in lost if name not in shown]], "rest": sizes[won[most * columns :]]}
    return Drawing("categories", "Win rate by category", figure, _caption(study, cells, **left))


def _room(cells: int, rows: int) -> tuple[float, int]:
    """Inches of a bar, and how many categories below each other a page has room for."""
    bar = min(_BAR, max(_THINNEST, (_TALLEST / rows - _GAP) / cells))
    return bar, max(_LEAST_CATEGORIES, int(_TALLEST / (_GAP + bar * cells)))


def _panel(
    axes: Axes, study: Study, cells: list[Cell], found: dict[str, list[Estimate]], shown: list[str], sizes: pd.Series
) -> dict[str, Any]:
    """These categories' bars; returns a legend handle per cell."""
    handles, thick = dict[str, Any](), 0.8 / len(cells)
    for place, cell in enumerate(cells):
        at = np.arange(len(shown)) + (place - (len(cells) - 1) / 2) * thick
        handles[cell.name] = _bars(axes, at, [found[name][place] for name in shown], thick, study.looks[cell.noise])
    wide = int(_CHARACTERS_PER_INCH * figure_of(axes).get_figwidth() / len(figure_of(axes).axes))
    axes.set_yticks(range(len(shown)), [f"{lines_of(_readable(name), wide)} ({sizes[name]})" for name in shown])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis_label(WIN_RATE))
    return handles


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _cut(name: str) -> str:
    return name if len(name) <= _LONG_NAME else f"{name[:_LONG_NAME]}…"


def _bars(axes: Axes, at: NDArray[Any], found: list[Estimate], thick: float, look: Look) -> Any:
    paint: Any = {"facecolor": (look.colour, _TINT), "hatch": look.hatch}
    if look.colour == INK:
        paint = {"facecolor": PAPER}
    means = [each.mean for each in found]
    spread = [[each.mean - each.low for each in found], [each.high - each.mean for each in found]]
    bars = axes.barh(at, means, thick, edgecolor=INK, linewidth=0.5, **paint)
    whiskers = axes.errorbar(means, at, xerr=spread, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5)
    for lines in whiskers.lines[2]:
        lines.set_linestyle([ONE_RUN if is_of_one_run(each) else "-" for each in found])
    for place, value in zip(at, means, strict=True):
        if value == 0:  # a bar of length zero would look like a missing one
            axes.annotate("0", (0, place), (2, 0), textcoords="offset points", va="center", fontsize=_SMALL)
    return bars


def _caption(study: Study, cells: list[Cell], lost: pd.Series, rest: pd.Series) -> str:
    dotted = "; dotted: of one run, they say nothing of other seeds" if any(len(c.run_ids) == 1 for c in cells) else ""
    said = (
        f"Win rate by category. {study.conditions}Behind each category its number of instructions; whiskers: 95% t"
        f" intervals over seeds and the category's instructions{dotted}."
        f" {counted(study, cells).replace('point', 'bar')} in all categories together."
    )
    if len(study.alphas) > 1:
        said += " Where a noise has several alphas, the one is shown that wins most on one half of the instructions."
    if len(lost):
        named = [f"{_cut(_readable(str(name)))} ({size})" for name, size in lost.items()]
        said += f" Nobody won in {', '.join(named)}."
    if len(rest):
        said += f" Not shown: {len(rest)} categories of {rest.min()} to {rest.max()} instructions."
    return said + study.lost


def _categories(study: Study, cells: list[Cell]) -> pd.Series:
    """Category by (instruction, occurrence), as the index of `Measures.wins`."""
    frame = study.measures.runs.preferences
    frame = frame[frame["run_id"].isin([cell.run_ids[0] for cell in cells][:1])]
    keyed = frame.assign(occurrence=frame.groupby("instruction").cumcount())
    return keyed.set_index(["instruction", "occurrence"])["dataset"].dropna().astype(str)


def _estimate(study: Study, cell: Cell, category: pd.Series, name: str) -> Estimate:
    wins = study.measures.wins(cell.run_ids)
    values_SI = wins[category.reindex(wins.index).to_numpy() == name].to_numpy().T
    if not values_SI.size:
        return Estimate(_NAN, _NAN, _NAN, _NAN, len(cell.run_ids))
    return stats.mean_over_seeds_and_instructions(values_SI)
