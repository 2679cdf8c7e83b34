"""Answer lengths: win rate against length, and histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.columns import LENGTH, WIN_RATE
from analysis.figures.drawing import Drawing
from analysis.figures.study import Cell, Study, axis_label, counted, intervals
from analysis.figures.style import INK, Look, canvas, legend, looks

_BINS = 30
_BESIDE: Any = {"fontsize": 7, "zorder": 6}
# The longest answers are in the last bin if they are longer than this many times the 99th percentile.
_TAIL = 1.1


def win_rate_by_length(study: Study) -> Drawing | None:
    """Each cell's win rate against the mean length of its answers, its runs as small points around it."""
    cells = [cell for cell in study.cells if all(study.estimate(name, cell) for name in (WIN_RATE, LENGTH))]
    if not cells:
        return None
    figure, (axes,) = canvas(height=3.4)
    styles = looks(study.noises)
    for noise in dict.fromkeys(cell.noise for cell in cells):
        _trace(axes, study, [cell for cell in cells if cell.noise == noise], styles[noise])
    axes.set_xlabel(f"mean {axis_label(LENGTH)}")
    axes.set_ylabel(axis_label(WIN_RATE))
    axes.margins(0.08)
    legend(figure, {cell.noise: _handle(styles[cell.noise]) for cell in cells})
    title = "Win rate against length"
    caption = (
        f"{title}. {study.conditions}Large points: means of a noise and alpha (the number beside them), joined in the"
        f" order of alpha; whiskers: {intervals(cells, [WIN_RATE])}; small points: single runs. A raw win rate rewards"
        f" length. {counted(study, cells)}.{study.lost}"
    )
    return Drawing("win_rate_by_length", title, figure, caption)


def _trace(axes: Axes, study: Study, cells: list[Cell], look: Look) -> None:
    means = []
    for cell in cells:
        x, y = study.estimate(LENGTH, cell), study.estimate(WIN_RATE, cell)
        if x is None or y is None:
            continue
        means.append((x.mean, y.mean))
        runs = [study.measures.of_runs(name, cell.run_ids) for name in (LENGTH, WIN_RATE)]
        axes.plot(*runs, look.marker, color=look.colour, markersize=2.5, alpha=0.45)
        axes.vlines(x.mean, y.low, y.high, color=look.colour, linewidth=0.9, alpha=0.6)
        if cell.alpha is not None:
            axes.annotate(f"{cell.alpha:g}", (x.mean, y.mean), (4, 4), textcoords="offset points", **_BESIDE)
    axes.plot(*zip(*means, strict=True), look.marker, linestyle=look.line, color=look.colour, markersize=6)


def _handle(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker)


def length_histograms(study: Study) -> Drawing | None:
    """Distribution of answer lengths, one outline per noise over the references' in grey."""
    lengths = {cell: _lengths(study, cell) for cell in study.chosen}
    lengths = {cell: found for cell, found in lengths.items() if len(found)}
    if not lengths:
        return None
    references = _reference_lengths(study)
    everything = np.concatenate([*lengths.values(), references])
    edges = np.linspace(0, _top(everything), _BINS + 1)
    figure, (axes,) = canvas(height=2.8)
    if len(references):
        weights = np.full(len(references), 100 / len(references))
        axes.hist(
            np.minimum(references, edges[-1]), edges, weights=weights, color=INK, alpha=0.15, label="reference answers"
        )
    styles = looks(study.noises)
    for cell, found in lengths.items():
        _outline(axes, found, edges, styles[cell.noise], cell.name)
    axes.set_xlabel("length of an answer (characters)")
    axes.set_ylabel("share of answers (%)")
    handles, names = axes.get_legend_handles_labels()
    legend(figure, dict(zip(names, handles, strict=True)))
    return Drawing("length_histograms", "Answer lengths", figure, _histogram_caption(study, list(lengths)))


def _outline(axes: Axes, lengths: NDArray[np.float64], edges: NDArray[np.float64], look: Look, name: str) -> None:
    shares = 100 * np.histogram(np.minimum(lengths, edges[-1]), edges)[0] / len(lengths)
    axes.step(edges, [*shares, shares[-1]], where="post", color=look.colour, linestyle=look.line, label=name)
    median = float(np.median(lengths))
    axes.plot(median, 0, look.marker, color=look.colour, clip_on=False, zorder=5)


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
    """Those of one run: all runs of a study have the same references."""
    first = study.chosen[0].run_ids[:1]
    frame = study.measures.runs.preferences
    return frame.loc[frame["run_id"].isin(first), "reference_length"].to_numpy(float)


def _top(lengths: NDArray[np.float64]) -> float:
    """The right end of the axis: the longest answer, or where a thin tail of the longest begins."""
    longest, most = float(lengths.max()), float(np.percentile(lengths, 99))
    return max(1.0, longest if longest < _TAIL * most else _TAIL * most)
