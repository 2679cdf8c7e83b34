"""Figures as files: each as SVG, PDF and PNG, the captions beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.drawing import Drawing
from analysis.figures.registry import FIGURES, draw
from analysis.figures.style import WIDTH
from analysis.runs import Runs

SUFFIXES = (".svg", ".pdf", ".png")


def write_figures(runs: Runs, folder: str | Path, names: Sequence[str] = tuple(FIGURES), width: float = WIDTH) -> str:
    """Draw into a folder; returns one line per figure that is written, and one per reason why others are not.

    Raises:
        ValueError: see `draw`; or the folder is a file.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ValueError(f"-o {folder}: is a file; figures go into a folder")
    said, captions, missing = [], [], Counter[tuple[str, str]]()
    for drawing in draw(runs, names, width=width):
        if isinstance(drawing, Drawing):
            target.mkdir(parents=True, exist_ok=True)
            for suffix in SUFFIXES:
                drawing.save(target / f"{drawing.name}{suffix}")
            captions.append(f"**{drawing.name}**: {drawing.caption}\n")
            said.append(f"wrote {target / drawing.name}{{{','.join(SUFFIXES)}}}")
        else:
            missing[drawing.kind, drawing.reason] += 1
    for (kind, reason), count in missing.items():
        where = f" for {count} sets of runs" if count > 1 else ""
        said.append(f"{kind}: not drawn{where}: {reason}")
    if captions:
        (target / "captions.md").write_text("\n".join(captions), encoding="utf-8")
        said.append(f"wrote {target / 'captions.md'}")
    return "\n".join(said) + "\n"
