"""Tables as text for a terminal, Markdown, CSV, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import csv
import html
import io
import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from analysis.stats import Estimate
from analysis.tables import Column, Published, Table, Value, is_undefined, number_of, stacked

MISSING = "—"
UNDEFINED = "n/d"
RECALLED = "†"
# Characters of a line in a terminal, and not a rule to break a single column by.
_WIDEST = 160
_MARKS = f"{MISSING}: not run; {UNDEFINED}: not defined or not measured for these runs"
_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
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
    "×": r"$\times$",
    "−": "$-$",
    "²": "$^2$",
}


def render(tables: Sequence[Table], form: str) -> str:
    """All tables in one format.

    Raises:
        ValueError: there is no such format.
    """
    if form == "csv":
        return comma_separated(tables)
    if form not in FORMATS:
        raise ValueError(f"format={form!r}: expected csv, {', '.join(FORMATS)}")
    return "\n".join(FORMATS[form](table) for table in tables)


def cell_text(column: Column, value: Value) -> str:
    """A cell for a reader: mean ± half of a symmetric interval, or mean [low, high]."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if is_undefined(value):
        return UNDEFINED
    if isinstance(value, Published):
        return value.text + (RECALLED if value.recalled else "")
    if isinstance(value, float):
        return column.number(value)
    mean = column.number(value.mean)
    if math.isnan(value.low):
        return mean
    if math.isclose(value.high - value.mean, value.mean - value.low, rel_tol=1e-6):
        return f"{mean} ± {column.number(value.high - value.mean, signed=False)}"
    return f"{mean} [{column.number(value.low)}, {column.number(value.high)}]"


def text(table: Table) -> str:
    """Aligned columns for a terminal: wide headers take several lines, wide tables several blocks."""
    table = stacked(table)
    body = _body(table)
    titles = [*table.labels, *(column.title for column in table.columns)]
    heads = [_lines(title, max(len(row[i]) for row in body)) for i, title in enumerate(titles)]
    height = max(len(head) for head in heads)
    columns = [[""] * (height - len(head)) + head + [row[i] for row in body] for i, head in enumerate(heads)]
    widths = [max(map(len, column)) for column in columns]
    left = [True] * len(table.labels) + [column.is_text for column in table.columns]
    blocks = []
    for places in _pages(widths, len(table.labels)):
        rows = zip(*(columns[i] for i in places), strict=True)
        lines = [_aligned(row, [widths[i] for i in places], [left[i] for i in places]) for row in rows]
        named = [line for line in lines[:height] if line.strip()]
        blocks.append("\n".join([*named, "-" * len(lines[0]), *lines[height:]]))
    whole = "\n".join([table.title, "\n\n".join(blocks), *_notes(table)])
    return "\n".join(line.rstrip() for line in whole.splitlines()) + "\n"


def _pages(widths: Sequence[int], labels: int) -> Iterator[list[int]]:
    """The places of the columns of each block: the labels, and as many others as fit into _WIDEST characters."""
    repeated, page = list(range(labels)), list[int]()
    for place in range(labels, len(widths)):
        if page and sum(widths[i] + 2 for i in (*repeated, *page, place)) > _WIDEST:
            yield [*repeated, *page]
            page = []
        page.append(place)
    yield [*repeated, *page]


def markdown(table: Table) -> str:
    """A pipe table under its title."""
    table = stacked(table)
    heads = [*table.labels, *(_full_header(column) for column in table.columns)]
    aligned = ["---"] * len(table.labels) + ["---" if column.is_text else "---:" for column in table.columns]
    rows = [heads, aligned, *_body(table)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**", "", *lines, "", *(f"{note}  " for note in _notes(table))]) + "\n"


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


def latex(table: Table) -> str:
    """A booktabs table; needs \\usepackage{booktabs}."""
    spec = "l" * len(table.labels) + "".join("l" if column.is_text else "r" for column in table.columns)
    heads = [*table.labels, *(column.title for column in table.columns)]
    body = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in _body(table)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{spec}}}",
    ]
    lines += [
        r"\toprule",
        *_latex_groups(table),
        " & ".join(_latex(head) for head in heads) + r" \\",
        r"\midrule",
    ]
    lines += [*body, r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_latex(note)}" for note in _notes(table)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def web(table: Table) -> str:
    """An HTML table, every text escaped."""
    heads = [*table.labels, *(_full_header(column) for column in table.columns)]
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>", "<thead><tr>"]
    lines += [f'<th scope="col">{html.escape(head)}</th>' for head in heads]
    lines.append("</tr></thead><tbody>")
    for row in _body(table):
        lines.append("<tr>" + "".join(f"<td>{_unbroken(html.escape(cell))}</td>" for cell in row) + "</tr>")
    lines.append("</tbody></table>")
    lines += [f'<p class="note">{html.escape(note)}</p>' for note in _notes(table)]
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


def _body(table: Table) -> list[list[str]]:
    return [
        [*labels, *(cell_text(column, value) for column, value in zip(table.columns, values, strict=True))]
        for labels, values in table.rows
    ]


def _notes(table: Table) -> list[str]:
    values = [value for _, row in table.rows for value in row]
    notes = list(table.notes)
    if any(value is None for value in values):
        notes.append(f"{MISSING} not run")
    if any(is_undefined(value) for value in values):
        notes.append(f"{UNDEFINED} not defined or not measured for these runs")
    if any(isinstance(value, Published) and value.recalled for value in values):
        notes.append(f"{RECALLED} recalled: this published number could not be re-read")
    return notes


def _full_header(column: Column) -> str:
    return f"{column.group}: {column.title}" if column.group else column.title


def _lines(title: str, width: int) -> list[str]:
    """A header broken into lines as wide as its column's numbers."""
    widest_word = max((len(word) for word in title.split()), default=1)
    return textwrap.wrap(title, max(width, widest_word), break_on_hyphens=False) or [""]


def _aligned(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    cells = zip(row, widths, left, strict=True)
    return "  ".join(cell.ljust(width) if is_left else cell.rjust(width) for cell, width, is_left in cells)


def _spans(table: Table) -> list[tuple[str, int]]:
    return [(group, len(list(members))) for group, members in itertools.groupby(c.group for c in table.columns)]


def _latex_groups(table: Table) -> list[str]:
    if not any(column.group for column in table.columns):
        return []
    cells, rules, at = [""] * len(table.labels), [], len(table.labels) + 1
    for group, count in _spans(table):
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_latex(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _latex(value: str) -> str:
    escaped = "".join(_LATEX.get(char, char) for char in value)
    return "".join(_SYMBOLS.get(char, char) for char in escaped)


def _plain(value: Value) -> dict[str, str]:
    """A cell of CSV: full precision, empty where there is no number."""
    if isinstance(value, Estimate):
        numbers = {"": value.mean, " low": value.low, " high": value.high}
        counts = {" runs": str(value.runs), " instructions": str(value.instructions or "")}
        return {key: _digits(number) for key, number in numbers.items()} | counts
    number = number_of(value)
    return {"": value if isinstance(value, str) else "" if number is None else _digits(number)}


def _digits(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.10g}"
