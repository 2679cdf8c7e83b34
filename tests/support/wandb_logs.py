"""Puts a run folder into W&B as the harness does: by its backend and wandb itself, or much faster."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from analysis.sources.wandb_offline import find_logs, read_log
from harness.config.run import TrackingConfig
from harness.metrics.names import SUMMARY
from harness.record import RunFolder
from harness.record.tracking import Result, TrackedRun
from harness.record.tracking.layout import SCHEMA_VERSION
from harness.record.tracking.tables import tables_of
from harness.record.tracking.wandb_backend import WandbBackend


def log_run(folder: Path, root: Path) -> None:
    """One offline W&B run below root/wandb with what the run folder holds, by the harness's own backend."""
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    tracking = TrackingConfig(name="offline", mode="offline")
    run = TrackedRun(
        folder.name,
        RunFolder(folder),
        root,
        tracking,
        settings={**settings, "schema_version": SCHEMA_VERSION, "files": {}},
        group="sweep",
        job_type="train",
        tags=(),
        notes=None,
    )
    backend = WandbBackend()
    backend.start(run, run.folder.metrics())
    if (folder / "done").exists():
        final = _read(folder / "summary.json")["final"]
        summary = {name: final[name] for name in SUMMARY if name in final}
        backend.finish(Result(summary, tables_of(run.folder, final), (folder / "done").read_text().strip()))
    else:
        error = _read(folder / "failed") if (folder / "failed").exists() else None
        backend.abort(error and f"{error['type']}: {error['message']}")
    wait_for_end(root)


def wait_for_end(root: Path) -> None:
    """Until all logs below `root` have their last record: wandb's service writes it a moment after `finish` returns."""
    until = time.monotonic() + 20
    while any(read_log(path).exit_code is None for path in find_logs(root)):
        assert time.monotonic() < until, "a log without an end"
        time.sleep(0.01)


def write_log(folder: Path, root: Path) -> None:
    """A log with the records that wandb writes for a finished run, without wandb, in milliseconds."""
    place = root / "wandb" / f"offline-run-20260101_000000-{folder.name}"
    (place / "files" / "media" / "table").mkdir(parents=True)
    for name, rows in logged_tables(folder).items():
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        (place / "files" / path_of(name)).write_text(json.dumps(table), encoding="utf-8")
    blocks = _blocks([record.SerializeToString() for record in _records(folder)])
    (place / f"run-{folder.name}.wandb").write_bytes(blocks)


def _records(folder: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    first = Record()
    first.run.run_id = folder.name
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for key, value in {**settings, "schema_version": SCHEMA_VERSION}.items():
        first.run.config.update.add(key=key, value_json=json.dumps(value))
    yield first
    for row in rows_of(folder):
        record = Record()
        record.history.step.num = row["step"]
        for key, value in {**row, "_step": row["step"]}.items():
            if key != "step":
                record.history.item.add(nested_key=[key], value_json=json.dumps(value))
        yield record
    last = Record()
    for key, value in summary_of(folder).items():
        last.summary.update.add(nested_key=[key], value_json=json.dumps(value))
    yield last
    end = Record()
    end.exit.exit_code = 0
    yield end


def summary_of(folder: Path) -> dict[str, Any]:
    final = _read(folder / "summary.json")["final"]
    shown = {name: final[name] for name in SUMMARY if name in final}
    return {**shown, "status": "finished", **{name: {"path": path_of(name)} for name in logged_tables(folder)}}


def logged_tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return tables_of(RunFolder(folder), _read(folder / "summary.json")["final"])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def path_of(name: str) -> str:
    return f"media/table/{name}.table.json"


def _blocks(records: list[bytes]) -> bytes:
    """LevelDB's log: chunks that end with each block of 32 KiB, the rest of a record in the next."""
    data = bytearray(b":W&B" + b"\xe1\xbe\x00")
    for record in records:
        start, is_first, ends = 0, True, False
        while not ends:
            room = 32768 - len(data) % 32768
            if room < 7:
                data += bytes(room)
                continue
            chunk = record[start : start + room - 7]  # empty where just the head has room
            start += len(chunk)
            ends = start == len(record)
            kind = (1 if ends else 2) if is_first else (4 if ends else 3)
            data += struct.pack("<IHB", zlib.crc32(chunk, zlib.crc32(bytes([kind]))), len(chunk), kind) + chunk
            is_first = False
    return bytes(data)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
