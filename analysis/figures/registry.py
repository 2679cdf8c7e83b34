"""Every figure by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl

from analysis.figures.bars import category_bars
from analysis.figures.curves import alpha_curves, curvature
from analysis.figures.drawing import Drawing
from analysis.figures.forest import forest
from analysis.figures.gradient import gradient
from analysis.figures.length import length_histograms, win_rate_by_length
from analysis.figures.losses import losses
from analysis.figures.study import Study, studies
from analysis.figures.style import NARROWEST, RC, WIDEST, WIDTH
from analysis.sources.runs import Runs
from analysis.study.search import search_note
from harness.record.escape import escape_controls


@dataclass(frozen=True)
class Kind:
    """How a figure is drawn, and what it needs, for the message if it cannot be drawn."""

    draw: Callable[[Study], Drawing | None]
    needs: str


@dataclass(frozen=True)
class NotDrawn:
    """A figure for which a study has no numbers. kind: its name in FIGURES. where: what the study's runs share."""

    name: str
    kind: str
    reason: str
    where: str = ""


FIGURES = {
    "alpha_curves": Kind(alpha_curves, "finished runs of a noise with an alpha"),
    "forest": Kind(forest, "runs of noise=none, and of another noise with the same seeds"),
    "win_rate_by_length": Kind(win_rate_by_length, "judged answers"),
    "length_histograms": Kind(length_histograms, "answers"),
    "categories": Kind(category_bars, "judged answers of two or more categories"),
    "losses": Kind(losses, "logged training losses"),
    "curvature": Kind(curvature, "curvature probes (probe/...) of runs with an alpha"),
    "gradient": Kind(gradient, "runs with probe=gradient_noise"),
}


def draw(
    runs: Runs, names: Sequence[str] = tuple(FIGURES), most: int | None = None, width: float = WIDTH
) -> Iterator[Drawing | NotDrawn]:
    """Figures in the order of their names, one for each set of comparable runs, the largest set first.

    most: draw at most this many of one kind. width: of a figure in inches; panels are stacked if it is too narrow.

    Raises:
        ValueError: there is no such figure, no finished run, or a width is too small for a figure.
    """
    if not NARROWEST <= width <= WIDEST:
        raise ValueError(f"width={width:g}: expected {NARROWEST:g} to {WIDEST:g} inches")
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise ValueError(f"figure {unknown[0]!r}: there is no such figure; choose from {', '.join(FIGURES)}")
    if runs.runs.empty:
        raise ValueError(f"no finished run to draw; {len(runs.excluded)} others: `python -m analysis status` says why")
    found = [study for study in studies(runs, width) if study.size]
    found.sort(key=lambda study: -study.size)
    for name in names:
        for number, study in enumerate(found[:most], start=1):
            yield _draw(name, study, number if len(found) > 1 else None)
        for number, study in enumerate(found[most:] if most else [], start=(most or 0) + 1):
            yield NotDrawn(f"{name}-{number}", name, "left out here: `python -m analysis figures`", study.part.title)


def _draw(kind: str, study: Study, number: int | None) -> Drawing | NotDrawn:
    name = kind if number is None else f"{kind}-{number}"
    with mpl.rc_context(RC):
        drawing = FIGURES[kind].draw(study)
    if drawing is None:
        return NotDrawn(name, kind, f"needs {FIGURES[kind].needs}", study.part.title)
    note = search_note(study.measures.runs)
    said = f"{drawing.caption} {note[0].upper()}{note[1:]}." if note else drawing.caption
    return replace(drawing, name=name, caption=escape_controls(said))
