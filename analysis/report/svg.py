"""A figure's SVG as part of the page: page colours, unique ids, only shapes and text kept."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from analysis.figures.drawing import Drawing
from analysis.figures.style import GRID, INK, PAPER

_COLOURS = {INK: "currentColor", GRID: "var(--grid)", PAPER: "var(--paper)"}
_BEFORE_SVG = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)
_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<style\b.*?</style>|<!--.*?-->", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>")
_IDS = re.compile(r'(\bid="|href="#|url\(#)')


def inline(drawing: Drawing, suffix: str = "") -> Markup:
    """The figure for use inside HTML, labelled with its title for a screen reader.

    suffix: of its ids, for a second drawing of the same name in one page.
    """
    text = _UNWANTED.sub("", _BEFORE_SVG.sub("", drawing.svg()))
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    text = _IDS.sub(rf"\g<1>{drawing.name}{suffix}-", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box, "matplotlib writes a viewBox"
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(drawing.title)}">'
    return Markup(_OPENING.sub(opening, text, count=1))
