"""Training loss by step, with noise, next to the loss without noise at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.figures.curves import SIZE, has_own_intervals, metric_panel
from analysis.figures.drawing import Drawing
from analysis.figures.study import Study, counted, intervals
from analysis.figures.style import BAND, Look, canvas, columns_of, legend, same_height
from analysis.study.rows import Cell

_LOSS = "train/loss"
# Losses without noise: on held-out examples and, if probed, on training examples.
_NOISE_FREE = ("eval/loss", "probe/train/loss")
_MOST_ALPHAS = 3
# Lines with more points are thinned: print cannot show more.
_MOST_STEPS = 300


def losses(study: Study) -> Drawing | None:
    """A panel of training loss for up to three alphas, and one per noise-free loss against alpha."""
    history = study.measures.runs.history
    curves = {cell.name: _by_step(history, cell) for cell in study.cells if cell.run_ids}
    curves = {name: frame for name, frame in curves.items() if not frame.empty}
    if not curves:
        return None
    alphas = _spread(study.alphas) or [None]
    ends = _noise_free(study)
    columns = columns_of(len(alphas) + len(ends), study.width, most=2)
    figure, panels = canvas(study.width, -(-(len(alphas) + len(ends)) // columns), columns, height=2.2)
    handles: dict[str, Any] = {}
    for axes, alpha in zip(panels, alphas, strict=False):
        handles |= _panel(axes, study, curves, alpha)
    for axes, name in zip(panels[len(alphas) :], ends, strict=False):
        handles = metric_panel(axes, study, name) | handles
        axes.set_title("at the end, noise off", loc="left")
    for axes in panels[len(alphas) + len(ends) :]:
        axes.set_visible(False)
    same_height(panels[: len(alphas)])
    legend(figure, {noise: handles[noise] for noise in study.noises if noise in handles})
    return Drawing("losses", "Training and noise-free loss", figure, _caption(study, alphas, bool(ends)))


def _panel(axes: Axes, study: Study, curves: dict[str, pd.DataFrame], alpha: float | None) -> dict[str, Any]:
    styles, handles = study.looks, dict[str, Any]()
    for cell in study.cells:
        if cell.alpha in (None, alpha) and cell.name in curves:
            handles[cell.noise] = _line(axes, curves[cell.name], styles[cell.noise])
    if alpha is not None:
        axes.set_title(f"α = {alpha:g}, noise on", loc="left")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("training loss (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return handles


def _line(axes: Axes, frame: pd.DataFrame, look: Look) -> Any:
    thinned = frame.iloc[:: -(-len(frame) // _MOST_STEPS)]
    steps = thinned.index.to_numpy(float)
    options: Any = {"markevery": max(1, len(thinned) // 6), "marker": look.marker, "markersize": 3.5}
    (line,) = axes.plot(steps, thinned.mean(axis=1), color=look.colour, linestyle=look.line, **options)
    axes.fill_between(steps, thinned.min(axis=1), thinned.max(axis=1), color=look.colour, alpha=BAND, linewidth=0)
    return line


def _by_step(history: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """Steps as rows, runs as columns: the steps that every run of the cell logged."""
    if _LOSS not in history:
        return pd.DataFrame()
    rows = history[history["run_id"].isin(cell.run_ids)]
    return rows.pivot_table(index="step", columns="run_id", values=_LOSS).dropna()


def _noise_free(study: Study) -> list[str]:
    run_ids = [run_id for cell in study.cells for run_id in cell.run_ids]
    known = study.measures.known(run_ids)
    return [name for name in _NOISE_FREE if name in known] if study.alphas else []


def _spread(alphas: Sequence[float]) -> list[float | None]:
    """The smallest, middle and largest."""
    if len(alphas) <= _MOST_ALPHAS:
        return list(alphas)
    return [alphas[0], alphas[len(alphas) // 2], alphas[-1]]


def _caption(study: Study, alphas: Sequence[float | None], ends: bool) -> str:
    cells = [cell for cell in study.cells if cell.run_ids]
    left_out = [f"{alpha:g}" for alpha in study.alphas if alpha not in alphas]
    said = (
        f"Training and noise-free loss. {study.conditions}Training loss: mean over seeds of each logged step, noise on;"
        " bands: smallest to largest seed."
    )
    if ends:
        bands = intervals(cells, _NOISE_FREE, has_own_intervals(study, _NOISE_FREE))
        said += f" Noise-free loss at the end of training; bands and whiskers: {bands}."
    if left_out:
        said += f" Training losses not shown: α = {', '.join(left_out)}."
    return f"{said} {SIZE} {counted(study, cells, is_judged=False)}.{study.lost}"
