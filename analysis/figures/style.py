"""One look for all figures: every noise has its colour, line, marker and hatch, so that no one of them is needed.

Colours: Okabe and Ito's palette for colour-blind readers (without yellow, which white paper swallows). INK, GRID and
PAPER are looked for by the report, which gives them the colours of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from analysis.settings import BASELINE

INK, GRID, PAPER = "#1a1b1c", "#d9dadb", "#ffffff"
WIDTH = 6.75  # inches, the text width of a two-column page
BAND = 0.1  # opacity: three bands over each other stay apart
_LEGEND_CHARACTERS, _HANDLE_CHARACTERS = 100, 9  # of WIDTH, and of a legend's line with its gaps
_APART = 2.5  # points
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 1)), (0, (8, 3)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p")
_HATCHES = ("", "////", "\\\\\\\\", "xxxx", "....", "----", "++++")
# Noises that keep their look whatever else is in the figure; others take the places behind them.
_KNOWN = ("neftune", "symnoise", "gaussian", "bernoulli", "neftune_x2", "bernoulli_x2", "symnoise_matched")

RC: Any = {  # Any: the stubs name each key
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 5),
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "hatch.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Look:
    """How one noise is drawn."""

    colour: str
    line: Any
    marker: str
    hatch: str


def looks(noises: Iterable[str]) -> dict[str, Look]:
    """A look for each noise: no two alike in line and marker, no two of up to six alike in colour; none in ink."""
    names = sorted(set(noises), key=lambda name: (name != BASELINE, name not in _KNOWN, name))
    found = {BASELINE: Look(INK, (0, (1, 1)), "*", "")} if BASELINE in names else {}
    places: list[int] = []
    for name in names[len(found) :]:
        places.append(_KNOWN.index(name) if name in _KNOWN else _free(places))
        found[name] = _look(places[-1])
    return found


def _free(taken: list[int]) -> int:
    """The first place behind those of the known noises whose colour is the least used so far."""
    uses = Counter(place % len(_COLOURS) for place in taken)
    places = range(len(_KNOWN), len(_KNOWN) + len(_COLOURS) * len(_MARKERS))
    return min((place for place in places if place not in taken), key=lambda place: uses[place % len(_COLOURS)])


def _look(place: int) -> Look:
    turn, colour = divmod(place, len(_COLOURS))
    line = _LINES[(colour + 2 * turn) % len(_LINES)]
    return Look(_COLOURS[colour], line, _MARKERS[place % len(_MARKERS)], _HATCHES[place % len(_HATCHES)])


def canvas(rows: int = 1, columns: int = 1, height: float = 2.5) -> tuple[Figure, list[Any]]:
    """A figure of WIDTH inches and its axes in reading order; height: inches of one row."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, list(grid.flat)


def legend(figure: Figure, handles: dict[str, Any]) -> None:
    """One legend for all panels, above them, in as many rows as its names need."""
    widest = max((len(name) for name in handles), default=1)
    columns = max(1, min(len(handles), _LEGEND_CHARACTERS // (widest + _HANDLE_CHARACTERS)))
    with mpl.rc_context(RC):
        figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=columns)


def beside(axes: Any, place: int, count: int) -> Any:
    """Data coordinates moved sideways by a few points, so that whiskers at the same alpha stand side by side."""
    shift = (place - (count - 1) / 2) * _APART / 72
    return axes.transData + ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans)
