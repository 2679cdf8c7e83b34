"""Tables as text for a terminal, Markdown, CSV, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from analysis.render.blocks import Block, blocks, body, notes
from analysis.render.escape import escape_table
from analysis.render.latex import latex
from analysis.render.table import Column, Table, Value, number_of, stacked
from analysis.stats import Estimate

# Characters per line of a terminal, and between two columns.
_WIDEST, _GAP = 160, 2
# Columns that fit an HTML page: a wider table has its groups stacked.
_MOST_COLUMNS = 14
# Start of an HTML tag, or of the address of a link or image.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|(?<=\])\(")


def render(tables: Sequence[Table], form: str) -> str:
    """All tables in one format.

    Raises:
        ValueError: there is no such format.
    """
    if form != "csv" and form not in FORMATS:
        raise ValueError(f"format={form!r}: expected csv, {', '.join(FORMATS)}")
    tables = [escape_table(table) for table in tables]
    if form == "csv":
        return comma_separated(tables)
    return "\n".join(FORMATS[form](table) for table in tables)


def text(table: Table) -> str:
    """Aligned columns for a terminal: wide headers take several lines, wide tables several blocks."""
    parts = "\n\n".join(_aligned(block) for block in blocks(stacked(table), _WIDEST, _GAP))
    whole = "\n".join([table.title, parts, *notes(table)])
    return "\n".join(line.rstrip() for line in whole.splitlines()) + "\n"


def markdown(table: Table) -> str:
    """A pipe table under its title."""
    table = stacked(table)
    heads = [*table.labels, *(_full_header(column) for column in table.columns)]
    left = [True] * len(table.labels) + [column.is_text for column in table.columns]
    rows = pipe_table(heads, body(table), left)
    below = [f"{_literal(note)}  " for note in notes(table)]
    return "\n".join([f"**{_literal(table.title)}**", "", rows, "", *below]) + "\n"


def pipe_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[bool] = (True,)) -> str:
    """Cells as a Markdown table without a line end; left: the columns that are aligned left, by default the first."""
    sides = [*left, *[False] * (len(heads) - len(left))]
    lines = [heads, ["---" if is_left else "---:" for is_left in sides], *rows]
    return "\n".join("| " + " | ".join(_literal(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _literal(text: str) -> str:
    """Text that Markdown shows literally: no HTML, link or image."""
    return _MARKUP.sub(r"\\\g<0>", text)


def comma_separated(tables: Sequence[Table]) -> str:
    """Full precision, one line per row of any of the tables; an estimate also has low, high, runs, instructions."""
    rows = [row for table in map(stacked, tables) for row in _records(table)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _records(table: Table) -> Iterator[dict[str, str]]:
    heads = [replace(column, better="neither").title for column in table.columns]
    for labels, values in table.rows:
        row = {"table": table.title, **dict(zip(table.labels, labels, strict=True))}
        for head, value in zip(heads, values, strict=True):
            row |= {f"{head}{suffix}": text for suffix, text in _plain(value).items()}
        yield row


def web(table: Table) -> str:
    """An HTML table, every text escaped; a wide one has its groups stacked."""
    table = stacked(table) if len(table.columns) > _MOST_COLUMNS else table
    heads = [*table.labels, *(_full_header(column) for column in table.columns)]
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>", "<thead><tr>"]
    sides = [""] * len(table.labels) + [' class="text"' if column.is_text else "" for column in table.columns]
    named = zip(heads, sides, strict=True)
    lines += [f'<th scope="col"{side}>{html.escape(head)}</th>' for head, side in named]
    lines.append("</tr></thead><tbody>")
    for row in body(table):
        cells = (f"<td{side}>{_unbroken(html.escape(cell))}</td>" for cell, side in zip(row, sides, strict=True))
        lines.append("<tr>" + "".join(cells) + "</tr>")
    lines.append("</tbody></table>")
    lines += [f'<p class="note">{html.escape(note)}</p>' for note in notes(table)]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "html": web,
}


def _unbroken(cell: str) -> str:
    """A number and its interval on one line."""
    return cell.replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0") if "±" in cell or "[" in cell else cell


def _full_header(column: Column) -> str:
    return f"{column.group}: {column.title}" if column.group else column.title


def _aligned(block: Block) -> str:
    rows, widths = [*block.heads, *block.body], block.widths
    lines = [
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, block.left, strict=True)
        )
        for row in rows
    ]
    return "\n".join([*lines[: len(block.heads)], "-" * len(lines[0]), *lines[len(block.heads) :]])


def _plain(value: Value) -> dict[str, str]:
    """A cell of CSV: full precision, empty if there is no number."""
    if isinstance(value, Estimate):
        numbers = {"": value.mean, " low": value.low, " high": value.high}
        counts = {" runs": str(value.runs), " instructions": str(value.instructions or "")}
        return {key: _digits(number) for key, number in numbers.items()} | counts
    number = number_of(value)
    return {"": value if isinstance(value, str) else "" if number is None else _digits(number)}


def _digits(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.10g}"
