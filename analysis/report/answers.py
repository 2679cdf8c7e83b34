"""Answers and verdicts of the runs, packed for the page: each run on its own, opened only when a reader asks for it.

A run's answers are compressed JSON in base64. Instructions, categories and references, which runs share, are packed
once. Runs whose answers do not fit the size of the page are left out, and the page says which.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.sources.record import RunRecord
from analysis.sources.select import content_settings
from harness.metrics.preferences import win_fractions


@dataclass
class Answers:
    """shared: packed items. packed: index of a run -> its packed answers. without: runs that have none. left_out: those
    that did not fit."""

    shared: str
    packed: dict[int, str] = field(default_factory=dict)
    without: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


class Items:
    """Instructions that any run answered, numbered in order of appearance; the first run's reference is shared."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._numbers: dict[tuple[str, int], int] = {}

    def number(self, instruction: str, occurrence: int, dataset: Any, reference: str | None) -> int:
        """The number of the n-th occurrence of an instruction."""
        key = (instruction, occurrence)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            category = None if dataset is None else str(dataset)
            self.rows.append({"instruction": instruction, "category": category, "reference": reference})
        return self._numbers[key]


def pack_answers(records: Sequence[RunRecord], budget: int) -> Answers:
    """As many runs as fit into `budget` bytes, one run of every setting before a second of any.

    The shared items grow with each run; they count, too.
    """
    items, answers, spent = Items(), Answers(""), 0
    for index in _fair_order(records):
        read = _read_whole(records[index], items)
        if read is None:
            answers.without.append(index)
            continue
        text = packed(read)
        if spent + len(text) <= budget:
            answers.packed[index] = text
            spent += len(text)
        else:
            answers.left_out.append(index)
    answers.shared = packed(items.rows)
    while answers.packed and spent + len(answers.shared) > budget:
        last = list(answers.packed)[-1]
        spent -= len(answers.packed.pop(last))
        answers.left_out.append(last)
    return answers


def packed(value: Any) -> str:
    """JSON, gzip, base64: letters that may stand in any element of a page. The same value gives the same text."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")


def _read_whole(run: RunRecord, items: Items) -> dict[str, Any] | None:
    """The answers of a run; also None for a run without a result whose files are damaged: the page says why."""
    try:
        return _read(run, items)
    except (ValueError, OSError):
        if run.status == "finished":
            raise
        return None


def _read(run: RunRecord, items: Items) -> dict[str, Any] | None:
    """One run's answers by item; None if it has none."""
    rows = run.details.annotations()
    keys = ("output_2", "output_1") if rows else ("output", "")
    rows = rows or run.details.outputs()
    if not rows:
        return None
    references = [row.get(keys[1]) for row in rows]
    numbers = [
        items.number(row["instruction"], occurrence, row.get("dataset"), reference)
        for row, occurrence, reference in zip(rows, _occurrences(rows), references, strict=True)
    ]
    texts = [str(row[keys[0]]) for row in rows]
    wins = [None if x != x else round(float(x), 4) for x in win_fractions([row.get("preference") for row in rows])]
    own = {
        place: reference
        for place, (number, reference) in enumerate(zip(numbers, references, strict=True))
        if reference != items.rows[number]["reference"]
    }
    return {
        "items": numbers,
        "outputs": texts,
        "lengths": [len(text) for text in texts],
        "wins": wins,
        "annotators": sorted({str(row["annotator"]) for row in rows if row.get("annotator")}),
        "references": own,
        "replies": {place: reply for place, row in enumerate(rows) if (reply := _reply(row))},
    }


def _reply(row: dict[str, Any]) -> str:
    """The reply of a judge that is a language model, under either of AlpacaEval's names for it; else ""."""
    reply = row.get("raw_completion") or row.get("preference_raw_completion") or ""
    return reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)


def _occurrences(rows: Iterable[dict[str, Any]]) -> list[int]:
    """0 for an instruction's first row, 1 for its second."""
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        found.append(seen[row["instruction"]])
        seen[row["instruction"]] += 1
    return found


def _fair_order(records: Sequence[RunRecord]) -> list[int]:
    """Indices: the first run of every setting, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    ranks = []
    for run in records:
        settings = {key: value for key, value in content_settings(run.config).items() if key != "seed"}
        key = json.dumps(settings, sort_keys=True, default=str)
        ranks.append(seen[key])
        seen[key] += 1
    return sorted(range(len(records)), key=lambda index: (ranks[index], index))
