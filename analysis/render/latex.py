"""Tables for a paper: LaTeX with booktabs, narrow enough for one page's column of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.render.blocks import Block, blocks, notes
from analysis.render.table import Table, stacked

# Characters in a column of 5.5 inches (NeurIPS, ICLR), and what the gap between two columns takes of them.
_SIZES = (
    (86.0, 1.4, r"\footnotesize\setlength{\tabcolsep}{3pt}"),
    (98.0, 1.1, r"\scriptsize\setlength{\tabcolsep}{2pt}"),
)
# Lines that fit a page, notes below them, and rows per part of a longer table.
_MOST_LINES, _MOST_ROWS = 50, 40
_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_SYMBOLS = {
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "—": "---",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "×": r"$\times$",
    "−": "$-$",
    "²": "$^2$",
}

_MINUS = re.compile(r"(?<![\w-])-(?=\d)")  # a minus sign, not a hyphen


def latex(table: Table) -> str:
    """A booktabs table, one of more than a page in several floats.

    It needs \\usepackage{booktabs}, and graphicx where columns that belong together are wider than a line.
    """
    pages = list(_pages(table))
    floats = []
    for number, parts in enumerate(pages):
        title = escaped(table.title) + (" (continued)" if number else "")
        said = [rf"{escaped(note)}\par" for note in notes(table)] if number == len(pages) - 1 else []
        floats.append(_float(title, parts, said))
    return "".join(floats)


def _pages(table: Table) -> Iterator[list[Block]]:
    """The parts of the table that fit one above the other on a page."""
    page: list[Block] = []
    for block in blocks(stacked(table), *_SIZES[0][:2]):
        for start in range(0, max(1, len(block.body)), _MOST_ROWS):
            part = replace(block, body=block.body[start : start + _MOST_ROWS])
            if page and sum(len(each.heads) + len(each.body) + 2 for each in (*page, part)) > _MOST_LINES:
                yield page
                page = []
            page.append(part)
    yield page


def _float(title: str, parts: Sequence[Block], said: Sequence[str]) -> str:
    below = [r"\begin{flushleft}\scriptsize", *said, r"\end{flushleft}"] if said else []
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{title}}}",
        "\n\\par\\medskip\n".join(map(_fitted, parts)),
        *below,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _fitted(block: Block) -> str:
    """The table in the largest type size that fits a line, or scaled to the line if none does."""
    for room, gap, size in _SIZES:
        if sum(block.widths) + gap * len(block.widths) <= room:
            return f"{size}\n{_tabular(block)}"
    return rf"{_SIZES[-1][2]}\resizebox{{\linewidth}}{{!}}{{%" + f"\n{_tabular(block)}}}"


def _tabular(block: Block) -> str:
    spec = "".join("l" if is_left else "r" for is_left in block.left)
    titles = [_stack(lines, is_left) for *lines, is_left in zip(*block.heads, block.left, strict=True)]
    lines = [
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
        *(" & ".join(escaped(cell) for cell in row) + r" \\" for row in block.body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _stack(lines: list[str], is_left: bool) -> str:
    """A header of one or more lines."""
    kept = [escaped(line) for line in lines if line]
    stack = r" \\ ".join(kept)
    return stack if len(kept) == 1 else rf"\shortstack[{'l' if is_left else 'r'}]{{{stack}}}"


def escaped(value: str) -> str:
    """Text with LaTeX's special characters and the tables' symbols escaped for LaTeX."""
    signed = _MINUS.sub("−", value)
    plain = "".join(_LATEX.get(char, char) for char in signed)
    return "".join(_SYMBOLS.get(char, char) for char in plain)
