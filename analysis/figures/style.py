"""One look for all figures: every noise has its colour, line, marker and hatch, each sufficient to tell it apart.

Colours: Okabe and Ito's palette for colour-blind readers (without yellow, which is invisible on white). The report
replaces INK, GRID and PAPER by the colours of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from analysis.render.escape import lines_of
from analysis.study.comparable import BASELINE, plain_name

INK, GRID, PAPER = "#1a1b1c", "#d9dadb", "#ffffff"
WIDTH = 6.75  # inches, the text width of a two-column page; one of its columns has 3.3
NARROWEST, WIDEST = 3.0, 20.0
ONE_RUN: Any = (0, (1, 1.5))  # stroke of whiskers over the instructions of a single run
BAND = 0.1  # opacity: three overlapping bands stay distinguishable
_CHARACTERS_PER_INCH, _HANDLE_CHARACTERS = 15, 9  # of a legend's text, and its line with the gaps
_LEGEND_ROW = 0.17  # inches
_PANEL_WIDTH = 1.9  # inches that a panel needs
_APART, _SPREAD = 2.5, 7.5  # points between whiskers at the same alpha, and between the outermost of them
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 1)), (0, (8, 3)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p")
_HATCHES = ("", "////", "\\\\\\\\", "xxxx", "....", "----", "++++")
# Noises with a fixed look, whatever else is in the figure; others get the following ones.
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
    "axes.formatter.limits": (-4, 6),
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
    "pdf.fonttype": 42,  # fonts are embedded whole, text can be searched and edited
    "svg.fonttype": "none",
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
    """A look for each noise: distinct in line and marker, up to six also distinct in colour; none is black.

    "neftune (length=true)" looks like neftune, unless another neftune occurs more often. Pass a noise once per run: the
    most frequent ones are the first to get their own colour.
    """
    uses = Counter(noises)
    names = sorted(uses, key=lambda name: (name != BASELINE, plain_name(name) not in _KNOWN, -uses[name], name))
    found = {BASELINE: Look(INK, (0, (1, 1)), "*", "")} if BASELINE in names else {}
    places: list[int] = []
    for name in names[len(found) :]:
        own = _KNOWN.index(plain_name(name)) if plain_name(name) in _KNOWN else None
        places.append(_free(places) if own is None or own in places else own)
        found[name] = _look(places[-1])
    return found


def _free(taken: list[int]) -> int:
    """The first free look after those of the known noises whose colour is used least so far."""
    uses = Counter(place % len(_COLOURS) for place in taken)
    places = range(len(_KNOWN), len(_KNOWN) + len(_COLOURS) * len(_MARKERS))
    return min((place for place in places if place not in taken), key=lambda place: uses[place % len(_COLOURS)])


def _look(place: int) -> Look:
    turn, colour = divmod(place, len(_COLOURS))
    line = _LINES[(colour + 2 * turn) % len(_LINES)]
    return Look(_COLOURS[colour], line, _MARKERS[place % len(_MARKERS)], _HATCHES[place % len(_HATCHES)])


def columns_of(panels: int, width: float, most: int = 3, least: float = _PANEL_WIDTH) -> int:
    """Number of panels side by side: as many as get `least` inches each; four become two rows of two."""
    wanted = 2 if panels == 4 else panels
    return max(1, min(wanted, most, int(width // least)))


def canvas(width: float, rows: int = 1, columns: int = 1, height: float = 2.5) -> tuple[Figure, list[Any]]:
    """A figure of `width` inches and its axes in reading order; height: inches of one row."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, list(grid.flat)


def legend(figure: Figure, handles: dict[str, Any]) -> None:
    """One legend above all panels, in as many rows as needed; the figure grows accordingly."""
    room = int(_CHARACTERS_PER_INCH * figure.get_figwidth())
    names = [lines_of(name, room - _HANDLE_CHARACTERS) for name in handles]
    widest = max((len(line) for name in names for line in name.splitlines()), default=1)
    columns = max(1, min(len(handles), room // (widest + _HANDLE_CHARACTERS)))
    rows = -(-sum(1 + name.count("\n") for name in names) // columns)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * rows)
    with mpl.rc_context(RC):
        figure.legend(list(handles.values()), names, loc="outside upper center", ncols=columns)


def figure_of(axes: Axes) -> Figure:
    """The figure that a panel is in."""
    found = axes.get_figure(root=True)
    assert found, "canvas made it"
    return found


def handle(look: Look) -> Line2D:
    """A noise's entry in a legend."""
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker)


def same_height(panels: Sequence[Axes]) -> None:
    """Give all axes the same scale."""
    bounds = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))


def beside(axes: Axes, place: int, count: int) -> Any:
    """Data coordinates shifted sideways by a few points, so that whiskers at the same alpha do not overlap.

    The more there are, the smaller the shift: a point far from its alpha would be read as another alpha's.
    """
    apart = min(_APART, _SPREAD / max(1, count - 1))
    shift = (place - (count - 1) / 2) * apart / 72
    return axes.transData + ScaledTranslation(shift, 0, figure_of(axes).dpi_scale_trans)
