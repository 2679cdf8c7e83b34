"""A figure: a matplotlib figure with its caption, written as SVG, PDF or PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.style import PAPER, RC

_DOTS_PER_INCH = 300


@dataclass(frozen=True)
class Drawing:
    """One figure. caption: plain text saying what is shown, from how many runs, and what the bands are."""

    name: str
    title: str
    figure: Figure
    caption: str

    def save(self, path: Path) -> None:
        """Write in the format given by the suffix; the same figure gives the same bytes."""
        about: dict[str, str | None] = {"Title": self.title}
        if path.suffix == ".svg":
            about |= {"Date": None, "Description": self.caption}
        elif path.suffix == ".pdf":
            about |= {"CreationDate": None, "Subject": self.caption}
        with _settings(self.name):
            self.figure.savefig(path, facecolor=PAPER, dpi=_DOTS_PER_INCH, metadata=about)

    def svg(self) -> str:
        """The figure as SVG text without a background, its words as text."""
        out = io.StringIO()
        with _settings(self.name), warnings.catch_warnings():
            # Letters that matplotlib's font lacks are drawn by the browser, which has others.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return out.getvalue()


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    with mpl.rc_context(RC), mpl.rc_context({"svg.hashsalt": salt}):
        yield
