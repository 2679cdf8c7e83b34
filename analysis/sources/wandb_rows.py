"""Reads back what the harness sends to W&B; shared by offline logs and the API.

harness/record/tracking/ writes: the config under "run"; the final numbers as summary keys "final/..."; the end as
summary key "status", with "reason" if it failed; the history with W&B's own step; the tables
"generations" and "annotations", if it was given them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.sources.record import DIVERGED, FOREIGN, Details, RunRecord, is_of_harness, with_contents

CONFIG_KEY, FILES_KEY = "run", "files"
FINAL_PREFIX = "final/"
TABLES = ("generations", "annotations")


def record_of(
    run_id: str,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    ending: tuple[str, str],
    origin: str,
    finished_at: float,
    details: Details,
) -> RunRecord:
    """A run as the harness recorded it; `ending` is status and reason, see `ending_of`."""
    settings = config.get(CONFIG_KEY)
    if not is_of_harness(settings):
        return RunRecord(run_id, "foreign", {}, {}, origin, Details(), FOREIGN, finished_at)
    named = {name: number_or_none(value) for name, value in summary.items() if name.startswith(FINAL_PREFIX)}
    final = {name.removeprefix(FINAL_PREFIX): value for name, value in named.items() if value is not None}
    settings = with_contents(dict(settings or {}), config.get(FILES_KEY))
    return RunRecord(run_id, ending[0], settings, final, origin, details, ending[1], finished_at)


def ending_of(summary: Mapping[str, Any], succeeded: bool, how: str) -> tuple[str, str]:
    """Status and reason of a run that has ended for W&B: as the harness recorded, else `how` it stopped."""
    status = summary.get("status")
    if status == "diverged":
        return "diverged", DIVERGED
    if status == "finished" and succeeded:
        return "finished", ""
    if status == "failed":
        return "failed", str(summary.get("reason") or how)
    return "incomplete", f"interrupted: {how}"


def history_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as in metrics.jsonl: without W&B's own keys, tables and empty rows; NaN and infinity as None."""
    kept = []
    for row in rows:
        named = {name: value for name, value in row.items() if not name.startswith("_") and is_number(value)}
        if named:
            numbers = {name: number_or_none(value) for name, value in named.items()}
            kept.append({"step": int(row["_step"]), **numbers})
    return kept


def table_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a logged table as dicts."""
    columns: Sequence[str] = table["columns"]
    return [dict(zip(columns, row, strict=True)) for row in table["data"]]


def is_number(value: Any) -> bool:
    """Whether it is a number, or one of W&B's spellings of NaN and infinity."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool)) or value in _UNWRITABLE


def number_or_none(value: Any) -> float | None:
    """A finite number, or None for NaN and infinity in any of W&B's spellings."""
    if value is None or value in _UNWRITABLE or not math.isfinite(float(value)):
        return None
    return float(value)


_UNWRITABLE = ("NaN", "Infinity", "-Infinity")
