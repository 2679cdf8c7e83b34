"""The run folder: the truth on disk. Files appear whole (written beside, then renamed) or not at all."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.record.files import file_hash, read_json, write_json, write_text
from harness.record.secrets import redact
from harness.system.locks import try_lock

METRICS = "metrics.jsonl"
STEPS = "steps.jsonl"  # loss and gradient norm of every step


_MODEL = "model"
_LEFT = {"generate": ("model_outputs.json",), "judge": ("annotations.json",), "probe": ("probes.json",)}


class RunBusy(BlockingIOError):
    """Another process holds the run."""


class RunFolder:
    """One run's folder: which stages are complete, its log, its metrics.

    A stage is complete when its output is in place and stages.json holds the fingerprint of the settings that
    made it; other settings (another judge, say) make the same stage incomplete again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def stages(self) -> dict[str, dict[str, Any]]:
        """Completed stages: name -> fingerprint, status, finished_at (Unix seconds), seconds, figures."""
        manifest = self / "stages.json"
        return read_json(manifest) if manifest.exists() else {}

    def is_complete(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage was done with these settings and what it left is there, by its sizes.

        The folder model/ may be gone as a whole (train.keep_model=false, or to save space), not in part.
        """
        entry = self.stages().get(stage, {})
        return entry.get("fingerprint") == fingerprint and not self._damaged(stage, entry)

    def _damaged(self, stage: str, entry: dict[str, Any]) -> list[str]:
        """Files of a stage that are missing or of another size; of runs of earlier versions, missing or empty."""
        if entry.get("status") == "diverged":
            return []
        if "files" not in entry:
            return [name for name in _LEFT.get(stage, ()) if not _size(self / name)]
        gone = not (self / _MODEL).is_dir()
        sizes = {name: noted["bytes"] for name, noted in entry["files"].items()}
        return [
            name
            for name, size in sizes.items()
            if _size(self / name) != size and not (gone and name.startswith(f"{_MODEL}/"))
        ]

    def verify(self, stage: str) -> None:
        """Hold every byte that a stage left against its checksum.

        Raises:
            ValueError: names the first file that is not what was written.
        """
        for name, noted in self.stages().get(stage, {}).get("files", {}).items():
            path = self / name
            if not path.is_file() or file_hash(path) != noted["sha256"]:
                raise ValueError(
                    f"{path}: missing, or not what the stage {stage} wrote (its checksum differs); "
                    f"delete it, and the same command does that stage again"
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
        """Note that a stage's output is in place, with its final numbers and names, and checksums of what it left."""
        entry = {
            "fingerprint": fingerprint,
            "status": status,
            "finished_at": time.time(),
            "seconds": round(seconds, 3),
            "figures": metrics,  # the key of every run folder so far
            "labels": labels or {},
            "files": {name: _noted(self / name) for name in self._names(files)},
        }
        write_json(self / "stages.json", {**self.stages(), stage: entry})

    def _names(self, files: Sequence[str]) -> list[str]:
        """Files by name, those in folders too."""
        places = [
            path for name in files for path in ((self / name).rglob("*") if (self / name).is_dir() else [self / name])
        ]
        return sorted(str(path.relative_to(self.path)) for path in places if path.is_file())

    def remove_tree(self, name: str) -> None:
        shutil.rmtree(self / name, ignore_errors=True)

    def log(self, message: str) -> None:
        """Append a line with the local time to log.txt, secrets left out."""
        with open(self / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {redact(message)}\n")

    def append_metrics(self, row: dict[str, float | int], name: str = METRICS) -> None:
        """Append one logged step to metrics.jsonl; NaN and infinity become null (JSON has neither)."""
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        with open(self / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def metrics(self, name: str = METRICS) -> list[dict[str, Any]]:
        """All logged steps so far; what a crash left at the very end, which is no row, is left out.

        Raises:
            ValueError: a line before the last row is no row; names file and line.
        """
        path = self / name
        return list(_rows(path, path.read_bytes().split(b"\n")[:-1])) if path.exists() else []

    def truncate_metrics(self, step: int) -> None:
        """Drop rows after `step`: a resumed run logs them again, whatever is left of them.

        Raises:
            ValueError: as `metrics`, of a line before that step.
        """
        for path in (path for name in (METRICS, STEPS) if (path := self / name).exists()):
            lines = path.read_bytes().split(b"\n")[:-1]
            steps = [row["step"] if (row := _row(line)) else None for line in lines]
            done = [number for number, at in enumerate(steps, start=1) if at is not None and at <= step]
            rows = [row for row in _rows(path, lines[: max(done, default=0)]) if row["step"] <= step]
            write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def _remove_unfinished(self) -> None:
        """What a process that was killed had not yet renamed into place."""
        for path in self.path.glob(".*.tmp"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

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
            raise ValueError(f"{path}: line {number} is no logged step: {text!r}; delete it, or the whole folder")
        yield row


def _row(line: bytes) -> dict[str, Any] | None:
    """A logged step; None for anything else, such as the zeros of a block that never reached the disk."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
