"""Runs from the logs that W&B keeps on disk (run-<id>.wandb), finished or torn, without a network or an account.

A log is a sequence of protobuf records in LevelDB's format: blocks of 32 KiB, in them chunks with a header of CRC-32
(4 bytes), length (2) and kind (1: whole, 2: first, 3: middle, 4: last of a record that spans blocks).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.source import RunRecord
from analysis.wandb_copy import FINAL_PREFIX, TABLES, history_rows, record_of, table_rows
from harness.record import read_json

_FILE_HEADER = 7  # ":W&B", two bytes of magic, the version
_BLOCK = 32 * 1024
_CHUNK_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


@dataclass
class Log:
    """What one .wandb file holds of a run."""

    path: Path
    run_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


class LogDetails:
    """A log's history, and the tables in the files beside it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def history(self) -> list[dict[str, Any]]:
        return history_rows(self.log.history)

    def outputs(self) -> list[dict[str, Any]]:
        return self._table("generations")

    def annotations(self) -> list[dict[str, Any]]:
        return self._table("annotations")

    def _table(self, name: str) -> list[dict[str, Any]]:
        if name not in self.log.tables:
            return []
        return table_rows(read_json(self.log.path.parent / "files" / self.log.tables[name]))


def read_logs(root: Path) -> list[RunRecord]:
    """One record per log below `root`; an earlier attempt at a run is incomplete, whatever it says.

    Raises:
        ValueError: a log is damaged before its end.
    """
    logs = [read_log(path) for path in find_logs(root)]
    newest = {log.run_id: log for log in logs}
    return sorted((_record(log, newest[log.run_id] is log) for log in logs), key=lambda run: run.run_id)


def find_logs(root: Path) -> list[Path]:
    """The .wandb files of a run's folder, of a wandb/ folder, or of the folder around it, oldest first."""
    found = {path for pattern in ("", "*/", "wandb/*/") for path in root.glob(f"{pattern}run-*.wandb")}
    return sorted((path for path in found if not path.parent.is_symlink()), key=lambda path: path.parent.name)


def read_log(path: Path) -> Log:
    """Config, summary, history and end of one log; a log torn at its end gives what was written before.

    Raises:
        ValueError: not a W&B log, or damaged in the middle.
    """
    from wandb.proto import wandb_internal_pb2

    parse = wandb_internal_pb2.Record.FromString  # type: ignore[attr-defined]  # made when it is imported
    log = Log(path)
    for record in map(parse, _raw_records(path)):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {item.key or item.nested_key[0]: item for item in record.history.item if len(item.nested_key) < 2}
            log.history.append({key: json.loads(item.value_json) for key, item in row.items()})
        elif kind == "summary":
            _update_summary(log, record.summary)
        elif kind == "run":
            log.run_id = record.run.run_id
            _update_config(log, record.run.config)
        elif kind == "config":
            _update_config(log, record.config)
        elif kind == "exit":
            log.exit_code = record.exit.exit_code
    if not log.run_id:
        raise ValueError(f"{path}: a W&B log without a run")
    return log


def _update_config(log: Log, config: Any) -> None:
    for item in config.update:
        if item.key:
            log.config[item.key] = json.loads(item.value_json)


def _update_summary(log: Log, summary: Any) -> None:
    """Keep the final numbers, the status and the tables; the rest repeats the history."""
    for item in summary.update:
        path = [item.key] if item.key else list(item.nested_key)
        if len(path) == 1 and (path[0].startswith(FINAL_PREFIX) or path[0] == "status"):
            log.summary[path[0]] = json.loads(item.value_json)
        elif path[0] in TABLES and path[1:] == ["path"]:
            log.tables[path[0]] = json.loads(item.value_json)
        elif path[0] in TABLES and len(path) == 1:
            log.tables[path[0]] = json.loads(item.value_json)["path"]


def _record(log: Log, is_newest: bool) -> RunRecord:
    ending = _ending(log) if is_newest else ("incomplete", "a later log of the same run exists")
    finished_at = log.path.stat().st_mtime
    return record_of(log.run_id, log.config, log.summary, ending, str(log.path.parent), finished_at, LogDetails(log))


def _ending(log: Log) -> tuple[str, str]:
    if log.exit_code is None:
        return "incomplete", "its log has no end: running or interrupted"
    status = log.summary.get("status")
    if status == "diverged":
        return "diverged", "training met NaN or infinity"
    if status == "finished" and log.exit_code == 0:
        return "finished", ""
    return "failed", f"exit code {log.exit_code}"


def _raw_records(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    if data[:4] != b":W&B":
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
            raise ValueError(f"{path}: damaged at byte {at}: the checksum does not match")
        parts, at = parts + chunk, end
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
