"""Figures as files: each as SVG, PDF and PNG, with the captions in one file."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.drawing import Drawing
from analysis.figures.registry import FIGURES, draw
from analysis.figures.style import WIDTH
from analysis.sources.runs import Runs

_GLYPH = re.compile(r"Glyph (\d+) .*missing from font")
SUFFIXES = (".svg", ".pdf", ".png")


def write_figures(runs: Runs, folder: str | Path, names: Sequence[str] = tuple(FIGURES), width: float = WIDTH) -> str:
    """Draw into a folder; return one line per figure written, and one per reason why others are not.

    Raises:
        ValueError: see `draw`; or the folder is a file.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ValueError(f"-o {folder}: is a file; figures go into a folder")
    said, captions, missing, boxes = [], [], Counter[tuple[str, str]](), set[str]()
    for drawing in draw(runs, names, width=width):
        if isinstance(drawing, Drawing):
            target.mkdir(parents=True, exist_ok=True)
            boxes |= _save(drawing, target)
            captions.append(f"**{drawing.name}**: {drawing.caption}\n")
            said.append(f"wrote {target / drawing.name}{{{','.join(SUFFIXES)}}}")
        else:
            missing[drawing.kind, drawing.reason] += 1
    for (kind, reason), count in missing.items():
        where = f" for {count} sets of runs" if count > 1 else ""
        said.append(f"{kind}: not drawn{where}: {reason}")
    if boxes:
        said.append(f"{' '.join(sorted(boxes))}: boxes in PNG and PDF, matplotlib's font has no such letters")
    if captions:
        (target / "captions.md").write_text("\n".join(captions), encoding="utf-8")
        said.append(f"wrote {target / 'captions.md'}")
    return "\n".join(said) + "\n"


def _save(drawing: Drawing, folder: Path) -> set[str]:
    """Write a figure in every format; return the characters that the font lacks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for suffix in SUFFIXES:
            drawing.save(folder / f"{drawing.name}{suffix}")
    glyphs = [_GLYPH.match(str(each.message)) for each in caught]
    for each, glyph in zip(caught, glyphs, strict=True):
        if not glyph:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return {chr(int(glyph[1])) for glyph in glyphs if glyph}
