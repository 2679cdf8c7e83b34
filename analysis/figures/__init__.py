"""The figures of a study, for print and for the report; legible in grey and to colour-blind readers."""

from analysis.figures.drawing import Drawing
from analysis.figures.files import write_figures
from analysis.figures.registry import FIGURES, NotDrawn, draw

__all__ = ["FIGURES", "Drawing", "NotDrawn", "draw", "write_figures"]
