"""Metrics against alpha: a line with a band per noise, the baseline as a horizontal line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from analysis.figures.drawing import Drawing
from analysis.figures.papers import beside_curves, papers_of
from analysis.figures.study import Study, axis_label, counted, intervals
from analysis.figures.style import BAND, ONE_RUN, Look, beside, canvas, columns_of, figure_of, legend
from analysis.render.blocks import is_of_one_run
from analysis.stats import Estimate
from analysis.study.comparable import BASELINE
from analysis.study.rows import Cell, sort_labels
from harness.metrics.names import CONTROLLED, LENGTH, WIN_RATE

ALPHA = "noise strength α"
SIZE = "α: an entry of the noise is of size α/√(L·d), L tokens, d dimensions."
_METRICS = (WIN_RATE, CONTROLLED, LENGTH, "eval/loss")
# The Hessian first, then second differences of the loss; bounds and other weightings of a probe get no panels.
_CURVATURE = ("probe/trace", "probe/top_eigenvalue", "probe/curvature/rademacher/*", "probe/*curvature*")
_PARTS_OF_A_FIGURE = ("/low", "/high", "/per_token")
_MOST_PANELS = 6
# Alphas that span more than this are shown on a logarithmic axis.
_WIDE = 30
# Inches that a label needs, and that a panel's y axis takes.
_LABEL, _BESIDE_PANEL = 0.3, 0.6


def alpha_curves(study: Study) -> Drawing | None:
    """Win rate, length and eval loss against alpha."""
    names = study.measured(_METRICS)
    if not study.alphas or not names:
        return None
    return _curves(study, "alpha_curves", "Metrics against alpha", names)


def curvature(study: Study) -> Drawing | None:
    """Every curvature probe against alpha."""
    run_ids = [run_id for cell in study.cells for run_id in cell.run_ids]
    known = study.measures.known(run_ids)
    known.sort(key=lambda name: sort_labels(name.split("/")))  # radius 5 before radius 15
    found = [name for pattern in _CURVATURE for name in known if fnmatchcase(name, pattern)]
    names = [name for name in dict.fromkeys(found) if not name.endswith(_PARTS_OF_A_FIGURE)]
    if not study.alphas or not names:
        return None
    return _curves(study, "curvature", "Curvature against alpha", names)


def _curves(study: Study, name: str, title: str, metrics: Sequence[str]) -> Drawing:
    shown = list(metrics)[:_MOST_PANELS]
    columns = columns_of(len(shown), study.width)
    figure, panels = canvas(study.width, -(-len(shown) // columns), columns, height=2.2)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    handles, papers = dict[str, Any](), papers_of(study)
    for axes, each in zip(panels, shown, strict=False):
        handles = metric_panel(axes, study, each) | handles
        beside_curves(axes, study, papers, each)
    ours = {noise: handles[noise] for noise in study.noises if noise in handles}
    legend(figure, ours | papers.handle())
    cells = [cell for cell in study.cells if cell.run_ids]
    bands = intervals(cells, shown, has_own_intervals(study, shown))
    level = " The level line is training without noise." if study.baseline else ""
    caption = (
        f"{title}. {study.conditions}Lines: means; bands and whiskers: {bands}.{level} {SIZE}"
        f" {counted(study, cells, WIN_RATE in shown)}.{papers.said}{study.lost}"
    )
    if len(metrics) > len(shown):
        caption += f" Not shown: {len(metrics) - len(shown)} more of the kind, in the table probes."
    return Drawing(name, title, figure, caption)


def metric_panel(axes: Axes, study: Study, name: str) -> dict[str, Any]:
    """One metric against alpha; returns a legend handle per noise."""
    styles, handles = study.looks, dict[str, Any]()
    if study.baseline and (level := _estimate(study, name, study.baseline)):
        handles[BASELINE] = axes.axhline(level.mean, color=styles[BASELINE].colour, linestyle=styles[BASELINE].line)
        if is_of_one_run(level):
            for bound in (level.low, level.high):
                axes.axhline(bound, color=styles[BASELINE].colour, linestyle=ONE_RUN, linewidth=0.6)
        elif not np.isnan(level.low):
            axes.axhspan(level.low, level.high, color=styles[BASELINE].colour, alpha=BAND / 2, linewidth=0)
    with_alpha = [noise for noise in study.noises if study.series(noise)]
    for noise in with_alpha:
        points = [(cell, value) for cell in study.series(noise) if (value := _estimate(study, name, cell))]
        if points:
            place = beside(axes, with_alpha.index(noise), len(with_alpha))
            handles[noise] = _line(axes, points, styles[noise], place)
    alpha_axis(axes, study.alphas)
    axes.set_ylabel(axis_label(name))
    return handles


def has_own_intervals(study: Study, names: Sequence[str]) -> bool:
    """Some probe of a single run is shown with the interval that the probe gave."""
    probes = [name for name in names if name.startswith("probe/")]
    values = [_estimate(study, name, cell) for name in probes for cell in study.cells if cell.run_ids]
    return any(value and is_of_one_run(value) for value in values)


def _estimate(study: Study, name: str, cell: Cell) -> Estimate | None:
    """Mean with interval; that of a probe in a single run is over the examples which the probe measured."""
    value = study.estimate(name, cell)
    if value is None or value.runs > 1 or not np.isnan(value.low):
        return value
    low, high = (float(study.measures.of_runs(f"{name}/{side}", cell.run_ids)[0]) for side in ("low", "high"))
    return replace(value, low=low, high=high)


def _line(axes: Axes, points: Sequence[tuple[Cell, Estimate]], look: Look, place: Any) -> Any:
    alphas = np.array([cell.alpha for cell, _ in points], dtype=float)
    mean, low, high = (np.array([getattr(value, key) for _, value in points]) for key in ("mean", "low", "high"))
    options: Any = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "transform": place}
    (line,) = axes.plot(alphas, mean, **options)
    axes.update_datalim(np.column_stack([alphas, mean]))  # a line moved sideways does not count by itself
    strokes: Any = [ONE_RUN if is_of_one_run(value) else "-" for _, value in points]
    if ONE_RUN not in strokes:  # a band says that other seeds would lie in it
        axes.fill_between(alphas, low, high, color=look.colour, alpha=BAND, linewidth=0)
    axes.vlines(alphas, low, high, color=look.colour, linewidth=0.9, linestyles=strokes, transform=place)
    return line


def alpha_axis(axes: Axes, alphas: Sequence[float]) -> None:
    """Ticks at the alphas of the runs, on a logarithmic axis if they span orders of magnitude."""
    positive = [alpha for alpha in alphas if alpha > 0]
    is_wide = bool(positive) and max(positive) / min(positive) > _WIDE
    if is_wide:
        axes.set_xscale("symlog", linthresh=min(positive))
    places = [float(np.log(max(alpha, min(positive)))) for alpha in alphas] if is_wide else alphas
    named = _far_apart(places, _LABEL / _inches(axes))
    axes.xaxis.set_major_locator(FixedLocator(list(alphas)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([f"{a:g}" if i in named else "" for i, a in enumerate(alphas)]))
    axes.margins(x=0.08)
    axes.autoscale_view()
    axes.set_xlabel(ALPHA)


def _inches(axes: Axes) -> float:
    """Approximate width of the panel."""
    place = axes.get_subplotspec()
    columns = place.get_gridspec().ncols if place else 1
    return figure_of(axes).get_figwidth() / columns - _BESIDE_PANEL


def _far_apart(places: Sequence[float], share: float) -> set[int]:
    """Indices of the positions, ascending, whose labels do not overlap the previous one; share: of the axis."""
    named: list[int] = []
    for index, place in enumerate(places):
        if not named or place - places[named[-1]] >= share * (places[-1] - places[0]):
            named.append(index)
    return set(named)
