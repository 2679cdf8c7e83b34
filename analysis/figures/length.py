"""Answer lengths: win rate against length, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.figures.drawing import Drawing
from analysis.figures.papers import beside_lengths, papers_of
from analysis.figures.study import Study, axis_label, counted, intervals
from analysis.figures.style import INK, ONE_RUN, Look, canvas, columns_of, figure_of, handle, legend, same_height
from analysis.render.blocks import is_of_one_run
from analysis.render.escape import lines_of
from analysis.study.comparable import BASELINE
from analysis.study.rows import Cell
from harness.metrics.names import LENGTH, WIN_RATE

_BINS = 30
_MOST_OUTLINES = 4
_PANEL_WIDTH, _TITLE = 1.5, 24  # per noise's panel: width in inches, characters in its title
_BESIDE: Any = {"fontsize": 7, "zorder": 6}
# In points: half a marker, the gap to its alpha, a digit of it; the corners that an alpha is tried at.
_POINT, _BESIDE_POINT, _DIGIT, _DIGIT_HEIGHT = 2.5, 3.0, 4.5, 6.0
_CORNERS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
# The longest answers are in the last bin if they are longer than this many times the 99th percentile.
_TAIL = 1.1


def win_rate_by_length(study: Study) -> Drawing | None:
    """Each cell's win rate against the mean length of its answers, its runs as small points around it."""
    cells = [cell for cell in study.cells if all(study.estimate(name, cell) for name in (WIN_RATE, LENGTH))]
    if not cells:
        return None
    figure, (axes,) = canvas(study.width, height=3.4)
    noises = list(dict.fromkeys(cell.noise for cell in cells))
    means = [_trace(axes, study, [cell for cell in cells if cell.noise == noise]) for noise in noises]
    axes.set_xlabel(f"mean {axis_label(LENGTH)}")
    axes.set_ylabel(axis_label(WIN_RATE))
    axes.margins(0.08)
    papers = papers_of(study)
    beside_lengths(axes, study, papers)
    legend(figure, {noise: handle(study.looks[noise]) for noise in noises} | papers.handle())
    _name_alphas(axes, [point for points in means for point in points])
    title = "Win rate against length"
    caption = (
        f"{title}. {study.conditions}Large points: means of a noise and alpha (the number beside them, where it"
        f" has room), joined in the order of alpha; whiskers: {intervals(cells, [WIN_RATE])}; small points: single"
        f" runs. A raw win rate rewards length. {counted(study, cells)}.{papers.said}{study.lost}"
    )
    return Drawing("win_rate_by_length", title, figure, caption)


def _trace(axes: Axes, study: Study, cells: list[Cell]) -> list[tuple[float, float, float | None]]:
    """One noise's points in the order of alpha; returns (length, win rate, alpha) of each."""
    means, look = [], study.looks[cells[0].noise]
    for cell in cells:
        x, y = study.estimate(LENGTH, cell), study.estimate(WIN_RATE, cell)
        if x is None or y is None:
            continue
        means.append((x.mean, y.mean, cell.alpha))
        runs = [study.measures.of_runs(name, cell.run_ids) for name in (LENGTH, WIN_RATE)]
        axes.plot(*runs, look.marker, color=look.colour, markersize=2.5, alpha=0.45)
        stroke: Any = ONE_RUN if is_of_one_run(y) else "-"
        axes.vlines(x.mean, y.low, y.high, color=look.colour, linewidth=0.9, alpha=0.6, linestyles=stroke)
    across, up, _ = zip(*means, strict=True)
    axes.plot(across, up, look.marker, linestyle=look.line, color=look.colour, markersize=6)
    return means


def _name_alphas(axes: Axes, points: Sequence[tuple[float, float, float | None]]) -> None:
    """Label each point with its alpha at a corner that covers neither a point nor another label, if there is one."""
    figure = figure_of(axes)
    figure.draw_without_rendering()  # fixes the position of values on the page
    places = [axes.transData.transform((x, y)) * 72 / figure.dpi for x, y, _ in points]
    taken = [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in places]
    for (x, y, alpha), (left, bottom) in zip(points, places, strict=True):
        if alpha is None:
            continue
        text = f"{alpha:g}"
        for across, up in _CORNERS:
            start = left + (_BESIDE_POINT if across > 0 else -_BESIDE_POINT - _DIGIT * len(text))
            floor = bottom + (_BESIDE_POINT if up > 0 else -_BESIDE_POINT - _DIGIT_HEIGHT)
            box = (start, floor, start + _DIGIT * len(text), floor + _DIGIT_HEIGHT)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                offset = (start - left, floor - bottom)
                axes.annotate(text, (x, y), offset, textcoords="offset points", **_BESIDE)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def length_histograms(study: Study) -> Drawing | None:
    """Distribution of answer lengths, one outline per noise over that of the references in grey."""
    lengths = {cell: _lengths(study, cell) for cell in study.chosen}
    lengths = {cell: found for cell, found in lengths.items() if len(found)}
    if not lengths:
        return None
    references = _reference_lengths(study)
    edges = np.linspace(0, _top(np.concatenate([*lengths.values(), references])), _BINS + 1)
    groups = _panels(list(lengths))
    columns = columns_of(len(groups), study.width, least=_PANEL_WIDTH)
    figure, panels = canvas(study.width, -(-len(groups) // columns), columns, height=2.8 if len(groups) == 1 else 1.7)
    handles: dict[str, Any] = {}
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(groups))
        for cell in groups[place] if place < len(groups) else []:
            handles[cell.name] = _outline(axes, lengths[cell], edges, study.looks[cell.noise])
            if len(groups) > 1 and cell.noise != BASELINE:
                axes.set_title(lines_of(cell.name, _TITLE), loc="left")
        if len(references):
            handles["reference answers"] = _filled(axes, references, edges)
        axes.set_xlabel("length of an answer (characters)" if len(groups) == 1 else "characters")
        axes.set_ylabel("share of answers (%)" if place % columns == 0 else "")
    same_height(panels[: len(groups)])
    told = [cell.name for cell in lengths if cell.noise != BASELINE] if len(groups) > 1 else []  # by a title
    legend(figure, {name: shape for name, shape in handles.items() if name not in told})
    return Drawing("length_histograms", "Answer lengths", figure, _histogram_caption(study, list(lengths)))


def _panels(cells: list[Cell]) -> list[list[Cell]]:
    """All in one panel; if they would hide each other, one panel per noise, each with no noise."""
    if len(cells) <= _MOST_OUTLINES:
        return [cells]
    base = [cell for cell in cells if cell.noise == BASELINE]
    return [[*base, cell] for cell in cells if cell.noise != BASELINE]


def _filled(axes: Axes, lengths: NDArray[np.float64], edges: NDArray[np.float64]) -> Any:
    weights = np.full(len(lengths), 100 / len(lengths))
    *_, shape = axes.hist(np.minimum(lengths, edges[-1]), edges.tolist(), weights=weights, color=INK, alpha=0.15)
    return shape


def _outline(axes: Axes, lengths: NDArray[np.float64], edges: NDArray[np.float64], look: Look) -> Any:
    shares = 100 * np.histogram(np.minimum(lengths, edges[-1]), edges)[0] / len(lengths)
    axes.step(edges, [*shares, shares[-1]], where="post", color=look.colour, linestyle=look.line)
    median = float(np.median(lengths))
    axes.plot(median, 0, look.marker, color=look.colour, clip_on=False, zorder=5)
    return handle(look)


def _histogram_caption(study: Study, cells: list[Cell]) -> str:
    said = (
        f"Answer lengths. {study.conditions}Share of answers by length, all seeds of a noise together; markers on the"
        " axis: medians; the last bin also holds all longer answers."
    )
    if len(study.alphas) > 1:
        said += " Where a noise has several alphas, the one is shown that wins most on one half of the instructions."
    return f"{said} {counted(study, cells).replace('point', 'line')}.{study.lost}"


def _lengths(study: Study, cell: Cell) -> NDArray[np.float64]:
    frame = study.measures.runs.generations
    return frame.loc[frame["run_id"].isin(cell.run_ids), "length"].to_numpy(float)


def _reference_lengths(study: Study) -> NDArray[np.float64]:
    """Lengths of the references, from one run: all runs of a study share them."""
    first = study.chosen[0].run_ids[:1]
    frame = study.measures.runs.preferences
    return frame.loc[frame["run_id"].isin(first), "reference_length"].to_numpy(float)


def _top(lengths: NDArray[np.float64]) -> float:
    """The right end of the axis: the longest answer, or the start of a thin tail."""
    longest, most = float(lengths.max()), float(np.percentile(lengths, 99))
    return max(1.0, longest if longest < _TAIL * most else _TAIL * most)
