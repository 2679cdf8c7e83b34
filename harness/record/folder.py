"""The run folder: the truth on disk. Files appear whole (written beside, then renamed) or not at all."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.record.files import read_json, write_json, write_text
from harness.record.secrets import redact
from harness.system.locks import try_lock

METRICS = "metrics.jsonl"
STEPS = "steps.jsonl"  # loss and gradient norm of every step


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
        return self.stages().get(stage, {}).get("fingerprint") == fingerprint

    def complete(
        self,
        stage: str,
        fingerprint: str,
        seconds: float,
        status: str,
        metrics: dict[str, float],
        labels: dict[str, str] | None = None,
    ) -> None:
        """Note that a stage's output is in place, with its final numbers and names."""
        entry = {
            "fingerprint": fingerprint,
            "status": status,
            "finished_at": time.time(),
            "seconds": round(seconds, 3),
            "figures": metrics,  # the key of every run folder so far
            "labels": labels or {},
        }
        write_json(self / "stages.json", {**self.stages(), stage: entry})

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
        """All logged steps so far; a line torn by a crash at the very end is left out."""
        path = self / name
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def truncate_metrics(self, step: int) -> None:
        """Drop rows after `step`: a resumed run logs them again."""
        for name in (METRICS, STEPS):
            rows = [row for row in self.metrics(name) if row["step"] <= step]
            if (self / name).exists():
                write_text(self / name, "".join(json.dumps(row) + "\n" for row in rows))

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
