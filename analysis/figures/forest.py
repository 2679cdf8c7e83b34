"""Differences to training without noise, paired by seed and instruction: a forest plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from analysis import stats
from analysis.figures.drawing import Drawing
from analysis.figures.study import Study, counted
from analysis.figures.style import INK, ONE_RUN, PAPER, Look, canvas, columns_of
from analysis.render.blocks import is_of_one_run
from analysis.render.escape import lines_of
from analysis.stats import Estimate
from analysis.study.baseline import by_seed
from analysis.study.metrics import metric
from analysis.study.rows import Cell
from harness.metrics.names import WIN_RATE

_METRICS = (WIN_RATE, "eval/loss")
# If the largest difference is this many times the median one, the axis is logarithmic.
_WIDE, _USUAL = 30, 0.5
_ROOM = 1.5  # beyond the outermost, as a factor
_CHARACTERS_PER_INCH = 7  # share of a figure's width for a row's name


@dataclass(frozen=True)
class _Difference:
    cell: Cell
    estimate: Estimate
    found: bool


def forest(study: Study) -> Drawing | None:
    """A panel per metric, a row per noise and alpha, filled if the difference survives Holm's correction."""
    compared = _compared(study)
    if not compared:
        return None
    rows = [cell for cell in study.cells if any(each.cell is cell for found in compared.values() for each in found)]
    columns = columns_of(len(compared), study.width)
    names = [lines_of(cell.name, int(_CHARACTERS_PER_INCH * study.width)) for cell in rows]
    lines = sum(1 + name.count("\n") for name in names)
    figure, panels = canvas(study.width, len(compared) // columns, columns, height=0.85 + 0.1 * (lines + len(rows)))
    for axes, (name, found) in zip(panels, compared.items(), strict=True):
        _panel(axes, rows, name, found, study.looks)
    for place, axes in enumerate(panels):
        axes.set_yticks(range(len(rows)), names if place % columns == 0 else [""] * len(rows))
    title = "Differences to no noise"
    is_log = any(axes.get_xscale() == "symlog" for axes in panels)
    log = (
        " An axis numbered by powers of ten is logarithmic on both sides of zero, linear between them."
        if is_log
        else ""
    )
    caption = (
        f"{title}. {study.conditions}Runs of the same seed, for win rates also answers to the same instruction, are"
        f" compared in pairs; whiskers: 95% t intervals{_one_run(compared)}."
        f" Filled: p < {stats.LEVEL} after Holm's correction over"
        f" {sum(len(found) for found in compared.values())} comparisons; hollow: not.{log} {counted(study, rows)}."
        f"{study.lost}"
    )
    return Drawing("forest", title, figure, caption)


def _one_run(compared: dict[str, list[_Difference]]) -> str:
    """What dotted whiskers mean, if there are any."""
    dotted = any(is_of_one_run(each.estimate) for found in compared.values() for each in found)
    return ", dotted where they are over the instructions of one run and say nothing of other seeds" if dotted else ""


def _panel(axes: Axes, rows: list[Cell], name: str, found: list[_Difference], styles: dict[str, Look]) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for each in found:
        look, value, at = styles[each.cell.noise], each.estimate, rows.index(each.cell)
        if not np.isnan(value.low):
            stroke = ONE_RUN if is_of_one_run(value) else "-"
            axes.plot([value.low, value.high], [at, at], color=look.colour, linewidth=1.1, linestyle=stroke)
        fill = look.colour if each.found else PAPER
        axes.plot(value.mean, at, look.marker, color=look.colour, markerfacecolor=fill, markersize=5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _scale(axes, [each.estimate for each in found])
    known = metric(name)
    unit = "percentage points" if known.unit == "%" else known.unit
    arrow = {"higher": "→ better", "lower": "← better", "neither": ""}[known.better]
    axes.set_xlabel(f"Δ {known.header} ({unit})\n{arrow}")


def _scale(axes: Axes, values: Sequence[Estimate]) -> None:
    """Set about four ticks; logarithmic on both sides of zero if a few rows would hide the rest."""
    sizes = np.array([abs(value.mean) for value in values])
    small = float(np.quantile(sizes[sizes > 0], _USUAL)) if (sizes > 0).any() else 0.0
    if small and sizes.max() > _WIDE * small:
        decades = 10.0 ** np.arange(np.floor(np.log10(small)), np.ceil(np.log10(sizes.max())) + 1)
        ticks = decades[:: -(-len(decades) // 3)]
        axes.set_xscale("symlog", linthresh=float(decades[0]))
        low, high = (bound * _ROOM for bound in axes.get_xlim())
        axes.set_xlim(low, high)
        shown = [tick for tick in (*-ticks[::-1], 0.0, *ticks) if low <= tick <= high]
        axes.set_xticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _compared(study: Study) -> dict[str, list[_Difference]]:
    """Differences by metric; Holm's correction is over all metrics."""
    flat = [(name, cell, value) for name in _METRICS for cell, value in _differences(study, name)]
    tested = stats.with_shared_scatter([value for _, _, value in flat])
    p_values = stats.holm(np.array([stats.p_value(value) for value in tested]))
    compared: dict[str, list[_Difference]] = {}
    for (name, cell, value), p in zip(flat, p_values, strict=True):
        compared.setdefault(name, []).append(_Difference(cell, value, bool(p < stats.LEVEL)))
    return compared


def _differences(study: Study, name: str) -> Iterator[tuple[Cell, Estimate]]:
    """Each cell against the baseline's runs of the same seeds."""
    base = study.baseline
    for cell in study.cells if base else []:
        both = by_seed(cell, base) if base and cell is not base else None
        value = study.measures.difference(name, *both) if both else None
        if isinstance(value, Estimate) and not np.isnan(value.mean):
            yield cell, value
