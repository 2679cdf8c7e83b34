"""Published numbers for a figure: those of the study's data set on AlpacaEval, drawn hollow next to ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.study import Study
from analysis.figures.style import INK, PAPER, Look
from analysis.study.comparable import BASELINE, plain_name
from analysis.study.metrics import metric
from analysis.study.published import of_tables
from harness.metrics.names import LENGTH, WIN_RATE

# The only published table with win rate and length by alpha.
_TABLE = "neftune_table6"
_EVAL_SET = "alpaca_eval"
LABEL = "published (hollow)"
# Our numbers keep at least this share of an axis that shows both.
_LEAST_SHARE = 0.25
_HOLLOW: Any = {"markerfacecolor": PAPER, "linestyle": (0, (1, 2)), "linewidth": 0.8, "markersize": 4.5, "zorder": 1.5}


@dataclass(frozen=True)
class PaperCell:
    """A paper's numbers (metric -> value) for a noise and alpha; alpha None without noise."""

    noise: str
    alpha: float | None
    numbers: dict[str, float]


@dataclass
class Papers:
    """What a figure shows from the papers, and what it cannot; `said` goes into the caption."""

    cells: list[PaperCell]
    source: str
    outside: list[str]
    drawn: bool = False

    def points(self, noise: str, *names: str) -> list[tuple[float | None, list[float]]]:
        """(alpha, values) of a noise for which the paper has all of the metrics, ordered by alpha."""
        return [
            (cell.alpha, [cell.numbers[name] for name in names])
            for cell in self.cells
            if cell.noise == plain_name(noise) and set(names) <= set(cell.numbers)
        ]

    def fits(self, axes: Axes, name: str, values: Iterable[float], along: str = "y") -> bool:
        """Whether both fit on an axis; if not, the caption says where the paper's numbers are."""
        low, high = getattr(axes, f"get_{along}lim")()
        theirs = list(values)
        if not theirs:
            return False
        if high - low >= _LEAST_SHARE * (max(high, *theirs) - min(low, *theirs)):
            return True
        known = metric(name)
        unit = "%" if known.unit == "%" else f" {known.unit}"
        self.outside.append(f"{known.header} {min(theirs):g} to {max(theirs):g}{unit}")
        return False

    @property
    def said(self) -> str:
        """A sentence on where the published numbers come from, and which are off the axes."""
        if not self.cells:
            return ""
        outside = f"; off the axes: {', '.join(self.outside)}" if self.outside else ""
        hollow = "Hollow, without interval: published" if self.drawn else "Published"
        return f" {hollow}, {self.source}{outside}."

    def handle(self) -> dict[str, Any]:
        """The legend's entry, if anything was drawn."""
        return {LABEL: Line2D([], [], color=INK, marker="o", **_HOLLOW)} if self.drawn else {}


def papers_of(study: Study) -> Papers:
    """The published cells of the study's noises; none for other data or instructions."""
    dataset, eval_set = (plain_name(study.part.shared.get(key, "")) for key in ("dataset", "eval_set"))
    frame = of_tables((_TABLE,))
    frame = frame[(frame["dataset"] == dataset) & (eval_set == _EVAL_SET)]
    frame = frame[frame["noise"].isin({plain_name(noise) for noise in study.noises})]
    cells: dict[tuple[str, str], PaperCell] = {}
    for row in frame.to_dict("records"):
        alpha = float(row["alpha"]) if row["alpha"] else None
        cell = cells.setdefault((row["noise"], row["alpha"]), PaperCell(row["noise"], alpha, {}))
        cell.numbers[row["metric"]] = float(row["value"])
    sources = frame["source"] + " (" + frame["model"] + ", judge " + frame["judge"] + ")"
    return Papers(list(cells.values()), ", ".join(sources.unique()), [])


def beside_curves(axes: Axes, study: Study, papers: Papers, name: str) -> None:
    """A metric's published points against alpha, the baseline as a horizontal line."""
    every = [values[0] for noise in study.noises for _, values in papers.points(noise, name)]
    if not papers.fits(axes, name, every):
        return
    papers.drawn = True
    for noise in study.noises:
        points = papers.points(noise, name)
        if noise == BASELINE and points:
            axes.axhline(points[0][1][0], color=INK, linestyle=_HOLLOW["linestyle"], linewidth=0.8)
        elif points:
            _line(axes, [alpha for alpha, _ in points], [values[0] for _, values in points], study.looks[noise])


def beside_lengths(axes: Axes, study: Study, papers: Papers) -> None:
    """Published win rates against published lengths, ordered by alpha."""
    found = {noise: papers.points(noise, LENGTH, WIN_RATE) for noise in study.noises}
    every = [values for points in found.values() for _, values in points]
    fits = [
        papers.fits(axes, name, [values[place] for values in every], along)
        for place, (name, along) in enumerate(((LENGTH, "x"), (WIN_RATE, "y")))
    ]
    if not all(fits):
        return
    papers.drawn = True
    for noise, points in found.items():
        if points:
            _line(axes, [values[0] for _, values in points], [values[1] for _, values in points], study.looks[noise])


def _line(axes: Axes, across: Any, up: Any, look: Look) -> None:
    axes.plot(across, up, look.marker, color=look.colour, **_HOLLOW)
