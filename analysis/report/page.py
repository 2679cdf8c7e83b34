"""The page as one file: the template, styles and scripts of analysis/report/assets filled with a study."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.report import overview
from analysis.report.answers import Answers, pack_answers, packed
from analysis.report.opening import compared, openings, without_finding
from analysis.report.runlist import ordered, run_list
from analysis.report.sections import figure_parts, table_sections
from analysis.report.text import embedded_json
from analysis.sources.record import RunRecord
from analysis.sources.runs import Runs, load_runs, made_of_readable
from analysis.sources.select import Source, named
from harness.record import write_text
from harness.record.escape import escape_controls

_ASSETS = Path(__file__).parent / "assets"
# In this order: each uses definitions from those before it.
_SCRIPTS = ("text.js", "data.js", "runs.js", "answers.js", "state.js", "exports.js", "main.js")
MAX_MB = 25.0
# Reserved for the element around each run's answers, and for the sentence about missing ones.
_ELEMENT_BYTES, _FRAME_BYTES = 80, 1000
_MB = 1_000_000


def write_report(
    source: Source, output: str | Path, max_mb: float = MAX_MB, title: str = "", note: str = "", **options: Any
) -> str:
    """Write the page; return a line with its size and what was left out. Options: see `load_runs`.

    title, note: heading and remarks of the author, at the top of the page.

    Raises:
        ValueError: there is no finished run in the source, or the page is larger than `max_mb` without any answer.
    """
    runs = load_runs(source, **options)
    text, answers = made_of_readable(runs, lambda runs: report_page(runs, named(source), max_mb, title, note))
    write_text(Path(output), text)
    return f"wrote {output}: {len(text.encode()) / _MB:.1f} MB{_left_out(answers, max_mb)}\n"


def report_page(
    runs: Runs, source: str, max_mb: float = MAX_MB, title: str = "", note: str = ""
) -> tuple[str, Answers]:
    """The page of a study, and the answers in it. Raises: see `write_report`."""
    records = ordered(runs)
    page = _filled(runs, records, source)
    page |= {"title": escape_controls(title or f"Embedding noise: {Path(source).name or source}"), "note": note}
    template = _environment().get_template("page.html")
    room = int(max_mb * _MB) - len(template.render(page, answers=Answers(""), left_out="", data="").encode())
    room -= len(embedded_json(page["run_data"])) + _FRAME_BYTES + _ELEMENT_BYTES * len(records)
    if room < 0:
        raise ValueError(f"max_mb={max_mb:g}: without any answer the page is {-room / _MB:.1f} MB larger")
    answers = pack_answers(records, room)
    said = _left_out(answers, max_mb)
    data = embedded_json({**page["run_data"], "answers": sorted(answers.packed)})
    return template.render(page, answers=answers, left_out=said, data=data), answers


def _filled(runs: Runs, records: Sequence[RunRecord], source: str) -> dict[str, Any]:
    """Everything in the template but the answers."""
    tables = list(table_sections(runs))  # first: raises if no run is finished
    figures, not_drawn = figure_parts(runs)
    listed = run_list(runs, records)
    found, more = openings(runs)
    style, script = _style(), _script()
    return {
        "source": source,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": _version(),
        "counts": overview.counts(runs),
        "compared": compared(runs),
        "findings": found,
        "more_findings": more,
        "without_finding": without_finding(runs),
        "facts": overview.facts(runs),
        "cautions": overview.cautions(runs),
        "common": overview.common_settings(runs),
        "provenance": overview.provenance(records),
        "tables": tables,
        "table_texts": packed([part.texts for section in tables for part in section.parts]),
        "figures": figures,
        "not_drawn": not_drawn,
        "excluded": [
            (run, known["labels"])
            for run, known in zip(records, listed["runs"], strict=True)
            if known["status"] != "finished"
        ],
        "run_data": listed,
        "style": Markup(style),
        "script": Markup(script),
        "policy": _policy(style, script),
    }


def _left_out(answers: Answers, max_mb: float) -> str:
    if not answers.left_out:
        return ""
    total = len(answers.left_out) + len(answers.packed)
    return (
        f"; answers of {len(answers.packed)} of {total} runs: the others' are left out, a page has at most"
        f" {max_mb:g} MB (--max-mb)"
    )


def _policy(style: str, script: str) -> str:
    """Content security policy: this script, this style, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "style-src-attr 'unsafe-inline'",  # the shapes of inline SVG
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _style() -> str:
    return (_ASSETS / "page.css").read_text(encoding="utf-8")


@cache
def _script() -> str:
    parts = [(_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escaped"] = escape_controls
    return environment


def _version() -> str:
    try:
        return version("noise-harness")
    except PackageNotFoundError:
        return "unknown"
