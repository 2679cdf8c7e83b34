"""Runs from the logs that W&B keeps on disk (run-<id>.wandb), finished or torn, without a network or an account.

A log is a sequence of protobuf records in LevelDB's format: blocks of 32 KiB, in them chunks with a header of CRC-32
(4 bytes), length (2) and kind (1: whole, 2: first, 3: middle, 4: last of a record that spans blocks).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.sources.folders import folders
from analysis.sources.record import Details, RunRecord
from analysis.sources.wandb_rows import (
    TABLES,
    ending_of,
    final_of,
    history_rows,
    is_final,
    is_ours,
    output_rows,
    record_of,
    table_rows,
)
from harness.record import read_json
from harness.record.files import open_regular

_FILE_HEADER = 7  # ":W&B", two bytes of magic, the version
_BLOCK = 32 * 1024
_CHUNK_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


@dataclass
class Log:
    """The content of one .wandb file, apart from its history."""

    path: Path
    run_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    step: int | None = None
    exit_code: int | None = None


class LogDetails(Details):
    """A log's history, read again on request, and the tables in the files next to it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def history(self) -> list[dict[str, Any]]:
        records = (
            record.history for record in _records(self.log.path) if record.WhichOneof("record_type") == "history"
        )
        return history_rows(map(_history_row, records))

    def outputs(self) -> list[dict[str, Any]]:
        return output_rows(self.table("generations"))

    def annotations(self) -> list[dict[str, Any]]:
        return self.table("annotations")

    def table(self, name: str) -> list[dict[str, Any]]:
        if name not in self.log.tables:
            return []
        return table_rows(read_json(self.log.path.parent / "files" / self.log.tables[name]))


def read_logs(root: Path) -> list[RunRecord]:
    """One record per log at or below `root`; an earlier attempt at a run counts as incomplete.

    A log that is damaged before its end is unreadable.
    """
    logs, damaged = list[Log](), list[RunRecord]()
    for path in find_logs(root):
        try:
            logs.append(read_log(path))
        except ValueError as error:
            run_id = path.stem.removeprefix("run-")
            damaged.append(RunRecord(run_id, "unreadable", {}, {}, str(path.parent), Details(), str(error)))
    newest = {log.run_id: log for log in logs}
    return sorted([*(_record(log, newest[log.run_id] is log) for log in logs), *damaged], key=lambda run: run.run_id)


def find_logs(root: Path) -> list[Path]:
    """The .wandb files of a run's folder, of a wandb/ folder, or of folders around it, oldest first."""
    found = folders(root, lambda folder: any(folder.glob("run-*.wandb")))
    paths = [path for folder in found for path in folder.glob("run-*.wandb")]
    return sorted(paths, key=lambda path: path.parent.name)


def read_log(path: Path) -> Log:
    """Config, summary and end of one log; a truncated log gives what was written before.

    Raises:
        ValueError: not a W&B log, or damaged in the middle.
    """
    # The run_id from the file's name, because a run killed early has not written it.
    log = Log(path, run_id=path.stem.removeprefix("run-"))
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            log.step = record.history.step.num
        elif kind == "summary":
            _update_summary(log, record.summary)
        elif kind == "run":
            _update_config(log, record.run.config)
        elif kind == "config":
            _update_config(log, record.config)
        elif kind == "exit":
            log.exit_code = record.exit.exit_code
    return log


def _records(path: Path) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    for raw in _raw_records(path):
        try:
            yield wandb_internal_pb2.Record.FromString(raw)  # type: ignore[attr-defined]
        except DecodeError as error:
            raise ValueError(f"{path}: a record is damaged: {error}") from None


def _history_row(history: Any) -> dict[str, Any]:
    """Parse all values at once: one call per number would take twice as long."""
    items = [item for item in history.item if len(item.nested_key) < 2]
    values = json.loads(f"[{','.join(item.value_json for item in items)}]")
    return {item.key or item.nested_key[0]: value for item, value in zip(items, values, strict=True)}


def _update_config(log: Log, config: Any) -> None:
    for item in config.update:
        if item.key:
            log.config[item.key] = json.loads(item.value_json)


def _update_summary(log: Log, summary: Any) -> None:
    """Keep the final numbers, the status and the tables; the rest repeats the history."""
    for item in summary.update:
        path = [item.key] if item.key else list(item.nested_key)
        if len(path) == 1 and (is_final(path[0]) or path[0] in ("status", "reason")):
            log.summary[path[0]] = json.loads(item.value_json)
        elif path[0] in TABLES and path[1:] == ["path"]:
            log.tables[path[0]] = json.loads(item.value_json)
        elif path[0] in TABLES and len(path) == 1:
            log.tables[path[0]] = json.loads(item.value_json)["path"]


def _record(log: Log, is_newest: bool) -> RunRecord:
    status, reason = _ending(log) if is_newest else ("incomplete", "a later log of the same run exists")
    origin, seen = str(log.path.parent), log.path.stat().st_mtime
    if not log.config:
        return RunRecord(log.run_id, "incomplete", {}, {}, origin, Details(), "its log holds nothing yet", seen)
    details = LogDetails(log)
    try:
        final = final_of(log.summary, details.table("metrics")) if is_ours(log.config) else {}
    except (ValueError, OSError, LookupError, TypeError) as error:
        return RunRecord(log.run_id, "unreadable", {}, {}, origin, Details(), f"{origin}: table metrics: {error}", seen)
    return replace(record_of(log.run_id, log.config, final, (status, reason), origin, seen, details), step=log.step)


def _ending(log: Log) -> tuple[str, str]:
    if log.exit_code is None:
        return "incomplete", "its log has no end: running or interrupted"
    return ending_of(log.summary, log.exit_code == 0, f"exit code {log.exit_code}")


def _raw_records(path: Path) -> Iterator[bytes]:
    with open_regular(path) as file:
        data = file.read()
    if not b":W&B".startswith(data[:4]):  # a run that was killed at once leaves an empty log
        raise ValueError(f"{path}: not a W&B log")
    at, parts = _FILE_HEADER, b""
    while at + _CHUNK_HEADER.size <= len(data):
        room = _BLOCK - at % _BLOCK
        if room < _CHUNK_HEADER.size:
            at += room
            continue
        checksum, size, kind = _CHUNK_HEADER.unpack_from(data, at)
        start, end = at + _CHUNK_HEADER.size, at + _CHUNK_HEADER.size + size
        if end > len(data):
            return
        chunk = data[start:end]
        if zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != checksum:
            if not any(data[at:]):
                return  # zeros left by a crash of the machine
            raise ValueError(f"{path}: damaged at byte {at}: the checksum does not match")
        parts, at = parts + chunk, end
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
