"""Reads back what the harness sends to W&B; shared by offline logs and the API.

harness/record/tracking/ writes: the settings at the top of the config, with "schema_version" and "files" beside them;
the end as summary key "status", with "reason" if it failed; the history with W&B's own step; the tables "metrics"
(every final number), "generations" and "annotations". Before schema_version 2 the settings lay under "run", the final
numbers were summary keys "final/...", and some metrics went by other names: such logs are read, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.sources.record import DIVERGED, FOREIGN, Details, RunRecord, is_of_harness, with_contents
from harness.metrics.names import with_current_names

FILES_KEY = "files"
TABLES = ("metrics", "generations", "annotations")
# Of the first layout.
_OLD_SETTINGS, _OLD_FINAL = "run", "final/"
# What stands beside the settings in the config.
_NO_SETTINGS = ("schema_version", FILES_KEY, "_wandb")


def record_of(
    run_id: str,
    config: Mapping[str, Any],
    final: Mapping[str, float],
    ending: tuple[str, str],
    origin: str,
    finished_at: float,
    details: Details,
) -> RunRecord:
    """A run as the harness recorded it; `ending` is status and reason, see `ending_of`."""
    settings = _settings(config)
    if not is_of_harness(settings):
        return RunRecord(run_id, "foreign", {}, {}, origin, Details(), FOREIGN, finished_at)
    settings = with_contents(settings, config.get(FILES_KEY))
    return RunRecord(run_id, ending[0], settings, dict(final), origin, details, ending[1], finished_at)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings; of a run that W&B's agent started without the dotted keys of its sweep, which repeat them."""
    old = config.get(_OLD_SETTINGS)
    if isinstance(old, dict) and is_of_harness(old):
        return dict(old)
    return {key: value for key, value in config.items() if key not in _NO_SETTINGS and "." not in key}


def is_ours(config: Mapping[str, Any]) -> bool:
    """Whether a run is one of the harness: another program's may have tables of the same names."""
    return is_of_harness(_settings(config))


def is_final(key: str) -> bool:
    """Whether a summary key of the first layout is one of the final numbers."""
    return key.startswith(_OLD_FINAL)


def final_of(summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The final numbers under today's names.

    Args:
        summary: the run's, with every final number in the first layout.
        metrics: rows of the table that has them since.
    """
    old = {key.removeprefix(_OLD_FINAL): value for key, value in summary.items() if is_final(key)}
    named = {**with_current_names(old), **{str(row["metric"]): row["value"] for row in metrics}}
    numbers = {name: number_or_none(value) for name, value in named.items()}
    return {name: value for name, value in numbers.items() if value is not None}


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
        given = {name: value for name, value in row.items() if not name.startswith("_") and is_number(value)}
        named = with_current_names(given)
        if named:
            numbers = {name: number_or_none(value) for name, value in named.items()}
            kept.append({"step": int(row["_step"]), **numbers})
    return kept


def output_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table "generations" as in model_outputs.json, whichever columns it has."""
    return [dict(row) if "output" in row else _output_row(row) for row in rows]


def _output_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset": row.get("dataset"), "instruction": row["prompt"], "output": row["answer"]}


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
