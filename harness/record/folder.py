"""The run folder, the authoritative record of a run. Files appear whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.metrics.names import with_current_names
from harness.record.files import file_hash, read_mapping, write_json, write_text
from harness.record.secrets import redact
from harness.system.locks import try_lock

METRICS = "metrics.jsonl"


_MODEL = "model"
_LEFT = {"generate": ("model_outputs.json",), "judge": ("annotations.json",), "probe": ("probes.json",)}


class RunBusy(BlockingIOError):
    """Another process is working on the run."""


class RunFolder:
    """One run's folder: which stages are complete, its log, its metrics.

    A stage is complete when its output is in place and stages.json holds the fingerprint of the settings that produced
    it; other settings (such as another judge) make the stage incomplete again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def stages(self) -> dict[str, dict[str, Any]]:
        """Completed stages: name -> fingerprint, status, finished_at (Unix seconds), seconds, figures.

        Raises:
            ValueError: stages.json is not what the harness writes; names file and key.
        """
        manifest = self / "stages.json"
        found = read_mapping(manifest) if manifest.exists() else {}
        for name, entry in found.items():
            if flaw := _flaw(entry):
                raise ValueError(f"{manifest}: key {name}: {flaw}; delete the folder to redo the run")
        return found

    def is_complete(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage was done with these settings and its files are there.

        Files are checked by size; JSON, which is small and gets edited, also by checksum. The folder model/ may be
        missing as a whole (train.keep_model=false, or to save space), but not in part.
        """
        entry = self.stages().get(stage, {})
        return entry.get("fingerprint") == fingerprint and not self._damaged(stage, entry)

    def _damaged(self, stage: str, entry: dict[str, Any]) -> list[str]:
        """Files of a stage that are missing or changed; for runs of earlier versions, missing or empty."""
        if entry.get("status") == "diverged":
            return []
        if "files" not in entry:
            return [name for name in _LEFT.get(stage, ()) if not _size(self / name)]
        gone = not (self / _MODEL).is_dir()
        return [
            name
            for name, noted in entry["files"].items()
            if not (gone and name.startswith(f"{_MODEL}/")) and not self._is_as_noted(name, noted)
        ]

    def _is_as_noted(self, name: str, noted: dict[str, Any]) -> bool:
        path = self / name
        if _size(path) != noted.get("bytes"):
            return False
        return name.startswith(f"{_MODEL}/") or path.suffix != ".json" or file_hash(path) == noted.get("sha256")

    def verify(self, stage: str) -> None:
        """Check every file that a stage left against its checksum.

        Raises:
            ValueError: names the first file that is not what was written.
        """
        for name, noted in self.stages().get(stage, {}).get("files", {}).items():
            path = self / name
            if not path.is_file() or file_hash(path) != noted["sha256"]:
                raise ValueError(
                    f"{path}: missing, or not what the stage {stage} wrote (its checksum differs); "
                    f"delete it, then repeat the command to run that stage again"
                )

    def complete(
        self,
        stage: str,
        fingerprint: str,
        seconds: float,
        status: str,
        metrics: dict[str, float],
        labels: dict[str, str] | None = None,
        files: Sequence[str] = (),
    ) -> None:
        """Record that a stage's output is in place, with its final metrics and labels, and checksums of its files."""
        entry = {
            "fingerprint": fingerprint,
            "status": status,
            "finished_at": time.time(),
            "seconds": round(seconds, 3),
            "figures": metrics,  # the key in all existing run folders
            "labels": labels or {},
            "files": {name: _noted(self / name) for name in self._names(files)},
        }
        write_json(self / "stages.json", {**self.stages(), stage: entry})

    def _names(self, files: Sequence[str]) -> list[str]:
        """Names of the files, including those inside folders."""
        places = [
            path for name in files for path in ((self / name).rglob("*") if (self / name).is_dir() else [self / name])
        ]
        return sorted(str(path.relative_to(self.path)) for path in places if path.is_file())

    def remove_tree(self, name: str) -> None:
        shutil.rmtree(self / name, ignore_errors=True)

    def log(self, message: str) -> None:
        """Append a line with the local time to log.txt, with secrets redacted."""
        with open(self / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {redact(message)}\n")

    def append_metrics(self, row: dict[str, float | int]) -> None:
        """Append one logged step to metrics.jsonl; NaN and infinity become null (JSON has neither)."""
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        with open(self / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All logged steps so far, under today's names, without an incomplete row that a crash left at the very end.

        Raises:
            ValueError: a line before the last row is not a row; names file and line.
        """
        path = self / METRICS
        rows = _rows(path, path.read_bytes().split(b"\n")[:-1]) if path.exists() else ()
        return [with_current_names(row) for row in rows]

    def truncate_metrics(self, step: int) -> None:
        """Drop rows after `step`, complete or not: a resumed run logs them again.

        Raises:
            ValueError: as `metrics`, of a line before that step.
        """
        path = self / METRICS
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")[:-1]
        steps = [row["step"] if (row := _row(line)) else None for line in lines]
        done = [number for number, at in enumerate(steps, start=1) if at is not None and at <= step]
        rows = [row for row in _rows(path, lines[: max(done, default=0)]) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def _remove_unfinished(self) -> None:
        """Remove what a killed process had not yet renamed into place."""
        for path in self.path.glob(".*.tmp"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process.

        Raises:
            RunBusy: another process is working on the same run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self / ".lock")
        if lock is None:
            raise RunBusy(f"{self.path}: another process is working on this run")
        try:
            self._remove_unfinished()
            yield
        finally:
            lock.release()


def _flaw(entry: Any) -> str:
    """What is wrong with an entry of stages.json; empty if nothing is."""
    if not isinstance(entry, dict) or not isinstance(entry.get("fingerprint"), str):
        return "expected a mapping with a fingerprint"
    if not isinstance(entry.get("seconds"), int | float) or not isinstance(entry.get("figures"), dict):
        return "expected seconds and figures"
    files = entry.get("files", {})
    if not isinstance(files, dict) or not all(isinstance(noted, dict) for noted in files.values()):
        return "files: expected a mapping to sizes and checksums"
    return ""


def _noted(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _rows(path: Path, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    rows = [_row(line) for line in lines]
    while rows and rows[-1] is None:
        rows.pop()
    for number, row in enumerate(rows, start=1):
        if row is None:
            text = lines[number - 1][:60]
            raise ValueError(f"{path}: line {number} is not a logged step: {text!r}; delete it, or the whole folder")
        yield row


def _row(line: bytes) -> dict[str, Any] | None:
    """A logged step; None for anything else, such as zeros from a block that never reached the disk."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
