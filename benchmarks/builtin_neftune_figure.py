"""The figure of `benchmarks.builtin_neftune`: realised over intended norm against the length of the document.

    python -m benchmarks.builtin_neftune_figure benchmarks/results/builtin_neftune.md -o docs/figures

Writes builtin_neftune.png and .svg, at the width of one column of a paper.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

from analysis.figures.drawing import Drawing
from analysis.figures.style import INK, RC

WIDTH, HEIGHT = 3.3, 2.7  # inches
# Layouts whose points lie on one another are one line.
LINES: dict[str, tuple[str, str, Any, str]] = {
    "right": ("#009E73", "D", "-", "per document: NoiseCallback, padded or packed"),
    "padded": ("#0072B2", "o", "-", "neftune_noise_alpha, padded to 500"),
    "flat": ("#D55E00", "s", (0, (5, 1.5)), "neftune_noise_alpha, packed to 950"),
}


def read(path: Path) -> tuple[list[int], dict[str, list[list[float]]], str]:
    """Lengths, the measured shares of each line's layouts, and the line that says how they were measured."""
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    lengths = [int(cell.split()[0]) for cell in cells[0] if cell.endswith(" tokens")]
    found: dict[str, list[list[float]]] = {name: [] for name in LINES}
    for noise, layout, *values in cells[2:]:
        name = "right" if noise == "NoiseCallback" else "padded" if layout.endswith(" padded") else "flat"
        found[name].append([float(value) for value in values[: len(lengths)]])
    return lengths, found, next(line for line in lines if line.startswith("Realised over"))


def draw(lengths: list[int], found: dict[str, list[list[float]]], measured: str) -> Drawing:
    """Measured points and, dotted, sqrt(L / L used)."""
    with mpl.rc_context(RC):
        figure, axes = pyplot.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        curve = np.geomspace(min(lengths), max(lengths), 100)
        for width in (max(lengths), sum(lengths)):
            axes.plot(curve, np.sqrt(curve / width), ":", color=INK, linewidth=0.8, zorder=1)
        for name, (colour, marker, line, label) in LINES.items():
            for values in found[name]:
                axes.plot(lengths, values, marker, color=colour)
            axes.plot(lengths, np.mean(found[name], axis=0), marker, linestyle=line, color=colour, label=label)
        axes.set_xscale("log")
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.minorticks_off()
        axes.set_ylim(0, 1.12)
        axes.set_xlabel("real tokens of the document")
        axes.set_ylabel("realised / intended norm")
        figure.legend(loc="outside upper left", fontsize=7, handlelength=2.6)
    weakest = min(min(values) for values in found["flat"])
    caption = (
        "Norm of the noise that reaches a document, over the alpha / sqrt(3) that NEFTune asks for, in one batch of "
        f"{len(lengths)} documents: transformers' hook counts the width of the batch, so that the shortest gets "
        f"{100 * weakest:.0f}% when packed. Dotted: sqrt(L / width). {measured}"
    )
    return Drawing("builtin_neftune", "What built-in NEFTune does", figure, caption)


def main() -> int:
    """Draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the Markdown that benchmarks.builtin_neftune wrote")
    parser.add_argument("-o", "--out", type=Path, default=Path(), help="folder of the figures")
    given = parser.parse_args()
    drawing = draw(*read(given.table))
    for suffix in (".png", ".svg"):
        drawing.save(given.out / f"{drawing.name}{suffix}")
    print(drawing.caption)
    return 0


if __name__ == "__main__":
    sys.exit(main())
