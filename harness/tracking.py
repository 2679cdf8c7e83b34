"""Weights & Biases, the only place that knows it. Files on disk are the truth; this is a copy with the same numbers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.record import RunFolder


class Tracker:
    """One W&B run for one run folder; does nothing with tracking=disabled.

    The history is replayed from metrics.jsonl at the start, so an interrupted run that is continued has
    one complete W&B run, not two halves.
    """

    def __init__(self, config: Config, run_id: str, folder: RunFolder) -> None:
        self._run: Any = None
        if config.tracking.mode == "disabled":
            return
        root = Path(config.output_dir).expanduser().resolve()
        _isolate(root)
        import wandb

        if config.tracking.mode == "offline":
            _forget_earlier_attempts(root, run_id)
        self._run = wandb.init(
            id=run_id,
            name=run_id,
            project=config.tracking.project,
            entity=config.tracking.entity,
            group=config.tracking.group,
            tags=[config.model.name, config.dataset.name, config.noise.name],
            mode=config.tracking.mode,
            dir=str(root),
            config={"run": config.model_dump(mode="json")},
            resume="allow" if config.tracking.mode == "online" else None,
            reinit="finish_previous",
            settings=wandb.Settings(console="off", silent=True),
        )
        if not Path(self._run.dir).resolve().is_relative_to(root):
            raise OSError(f"W&B writes to {self._run.dir}, outside output_dir={root}; is WANDB_DIR set?")
        self._replay(folder)

    def _replay(self, folder: RunFolder) -> None:
        for row in folder.metrics():
            if row["step"] >= self._run.step:
                self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        """One step of the history; the same row as in metrics.jsonl."""
        if self._run is not None:
            self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def finish(self, final: dict[str, Any], tables: dict[str, list[dict[str, Any]]], status: str) -> None:
        """Final numbers under final/..., the rows of each file in `tables` (columns: all their keys), the exit code."""
        if self._run is None:
            return
        import wandb

        for key, value in final.items():
            self._run.summary[f"final/{key}"] = value
        self._run.summary["status"] = status
        for name, rows in tables.items():
            columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
            data: list[Any] = [[row.get(column) for column in columns] for row in rows]
            self._run.log({name: wandb.Table(columns=columns, data=data)})
        self._run.finish(exit_code=0 if status == "finished" else 1)
        self._run = None

    def abort(self) -> None:
        """Close the run as failed, keeping what was logged."""
        if self._run is not None:
            self._run.finish(exit_code=1)
            self._run = None


def _isolate(root: Path) -> None:
    """Everything W&B writes stays under the output folder, and a failing network cannot hold the run for long."""
    root.mkdir(parents=True, exist_ok=True)
    for name, folder in (
        ("WANDB_DATA_DIR", "data"),
        ("WANDB_CACHE_DIR", "cache"),
        ("WANDB_CONFIG_DIR", "config"),
    ):
        os.environ.setdefault(name, str(root / "wandb" / folder))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def _forget_earlier_attempts(root: Path, run_id: str) -> None:
    """Remove offline logs of earlier, interrupted attempts at this run: the new log replays what they held."""
    for folder in (root / "wandb").glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(folder)
