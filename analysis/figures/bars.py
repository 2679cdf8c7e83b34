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
from analysis.figures.style import INK, PAPER, Look, canvas, legend
from analysis.render.escape import lines_of
from analysis.stats import Estimate
from analysis.study.metrics import WIN_RATE
from analysis.study.rows import Cell

_MOST_CATEGORIES, _LEAST_CATEGORIES = 10, 3
_BAR, _GAP, _TALLEST = 0.12, 0.14, 8.0  # inches: a bar, the gap between categories, all of it
_CHARACTERS_PER_INCH = 4  # share of a figure's width for a category's name
_SMALL = 6  # points
_TINT = 0.55  # pale enough for the hatch to show in grey
_LEAST_SPAN = 10.0  # percent: smallest axis, so that noise around zero does not fill it
_NAN = float("nan")


def category_bars(study: Study) -> Drawing | None:
    """Bars per noise for the categories with the most instructions."""
    cells = [cell for cell in study.chosen if not study.measures.wins(cell.run_ids).empty]
    category = _categories(study, cells)
    sizes = category.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if not cells or len(sizes) < 2:
        return None
    high = _GAP + _BAR * len(cells)  # inches of one category
    most = max(_LEAST_CATEGORIES, min(_MOST_CATEGORIES, int(_TALLEST / high)))
    shown = [str(name) for name in sizes.index[:most]]
    figure, (axes,) = canvas(study.width, height=0.6 + len(shown) * high)
    handles, thick = dict[str, Any](), 0.8 / len(cells)
    for place, cell in enumerate(cells):
        found = [_estimate(study, cell, category, name) for name in shown]
        at = np.arange(len(shown)) + (place - (len(cells) - 1) / 2) * thick
        handles[cell.name] = _bars(axes, at, found, thick, study.looks[cell.noise])
    wide = int(_CHARACTERS_PER_INCH * study.width)
    axes.set_yticks(range(len(shown)), [f"{lines_of(name, wide)} ({sizes[name]})" for name in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, min(100.0, max(_LEAST_SPAN, axes.get_xlim()[1])))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(axis_label(WIN_RATE))
    legend(figure, handles)
    return Drawing("categories", "Win rate by category", figure, _caption(study, cells, sizes.iloc[most:]))


def _bars(axes: Axes, at: NDArray[Any], found: list[Estimate], thick: float, look: Look) -> Any:
    paint: Any = {"facecolor": (look.colour, _TINT), "hatch": look.hatch}
    if look.colour == INK:
        paint = {"facecolor": PAPER}
    means = [each.mean for each in found]
    spread = [[each.mean - each.low for each in found], [each.high - each.mean for each in found]]
    bars = axes.barh(at, means, thick, edgecolor=INK, linewidth=0.5, **paint)
    axes.errorbar(means, at, xerr=spread, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5)
    for place, value in zip(at, means, strict=True):
        if value == 0:  # a bar of length zero would look like a missing one
            axes.annotate("0", (0, place), (2, 0), textcoords="offset points", va="center", fontsize=_SMALL)
    return bars


def _caption(study: Study, cells: list[Cell], rest: pd.Series) -> str:
    said = (
        f"Win rate by category. {study.conditions}Behind each category its number of instructions; whiskers: 95% t"
        f" intervals over seeds and the category's instructions. {counted(study, cells).replace('point', 'bar')} in all"
        " categories together."
    )
    if len(study.alphas) > 1:
        said += " Where a noise has several alphas, the one is shown that wins most on one half of the instructions."
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
