"""Parts of the gradient under noise against its strength: what the pair cancels, beside the sampling noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

from analysis.figures.drawing import Drawing
from analysis.figures.study import Study
from analysis.figures.style import BAND, canvas, columns_of, legend, looks, same_height
from analysis.study.gradient import MODELS, strengths

# Measures by what a legend calls them; in percent of the sampling noise, or of the squared gradient.
_OF_NOISE = {"odd part": "odd_share", "scatter of the even part": "even_noise_share"}
_OF_GRADIENT = {"even part": "even_share"}
_NAMES = {"base": "before fine-tuning", "trained": "after fine-tuning"}


def gradient(study: Study) -> Drawing | None:
    """A panel for each model: shares against strength, on logarithmic axes, of the study's first run that has them."""
    run_ids = [run_id for cell in study.cells for run_id in cell.run_ids]
    found = [(run_id, which) for run_id in run_ids for which in MODELS if strengths(study.measures, [run_id], which)]
    shown = {which: run_id for run_id, which in reversed(found)}
    if not shown:
        return None
    columns = columns_of(len(shown), study.width)
    figure, panels = canvas(study.width, -(-len(shown) // columns), columns, height=2.6)
    handles: dict[str, Any] = {}
    for axes, which in zip(panels, [which for which in MODELS if which in shown], strict=False):
        handles |= _panel(axes, study, shown[which], which)
    same_height(panels[: len(shown)])
    legend(figure, handles)
    caption = (
        f"What noise of random signs does to the gradient of a batch. {study.conditions}Odd part: first-order noise,"
        " which the symmetric pair cancels; even part: the curvature term, which the pair keeps. Squared norms in"
        " percent of the sampling noise of a batch (odd part, scatter of the even part) and of the squared gradient"
        " (even part). Bands: 95% bootstrap intervals over pairs of batches. The level line is the sampling noise."
        " n = 1 run per panel."
    )
    return Drawing("gradient", "Gradient under noise", figure, caption)


def _panel(axes: Axes, study: Study, run_id: str, which: str) -> dict[str, Any]:
    names = _OF_NOISE | _OF_GRADIENT
    styles, handles = looks(list(names)), dict[str, Any]()
    alphas = strengths(study.measures, [run_id], which)
    for label, measure in names.items():
        columns = [
            [
                100 * float(study.measures.of_runs(f"probe/gradient/{which}/{measure}/{alpha}{side}", [run_id])[0])
                for alpha in alphas
            ]
            for side in ("", "/low", "/high")
        ]
        mean, low, high = (np.array(column) for column in columns)
        if np.isnan(mean).all():
            continue
        look, places = styles[label], np.array([float(alpha) for alpha in alphas])
        (handles[label],) = axes.plot(places, mean, color=look.colour, linestyle=look.line, marker=look.marker)
        axes.fill_between(places, low, high, color=look.colour, alpha=BAND, linewidth=0)
    axes.axhline(100, color="black", linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlabel="strength (α of random signs)", ylabel="percent")
    axes.xaxis.set_major_locator(FixedLocator([float(alpha) for alpha in alphas]))
    axes.xaxis.set_major_formatter(FixedFormatter(alphas))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0.1)
    axes.set_title(_NAMES[which], loc="left")
    return handles
