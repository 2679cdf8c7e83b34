"""Weights & Biases, the only place that knows it. Files on disk are the truth; this is a copy with the same numbers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from harness.config import Config
from harness.record import RunFolder

# What a run waits for a server that does not answer, at its start and at its end.
_PATIENCE_S = 30.0


class Tracker:
    """One W&B run for one run folder; does nothing with tracking=disabled.

    The history is replayed from metrics.jsonl at the start, so an interrupted run that is continued has
    one complete W&B run, not two halves.
    """

    def __init__(self, config: Config, run_id: str, folder: RunFolder) -> None:
        self._run: Any = None
        self._config, self._run_id, self._folder = config, run_id, folder
        if config.tracking.mode == "disabled":
            return
        root = Path(config.output_dir).expanduser().resolve()
        _isolate(root)
        import wandb

        try:
            self._run = _init(config, run_id, root, config.tracking.mode)
        except wandb.errors.CommError as error:
            self._say(f"W&B cannot be reached ({error}): this run is logged offline; `wandb sync` uploads it later")
            wandb.teardown()  # its service holds the id of the run that did not start
            self._run = _init(config, run_id, root, "offline")
        if not Path(self._run.dir).resolve().is_relative_to(root):
            raise OSError(f"W&B writes to {self._run.dir}, outside output_dir={root}; is WANDB_DIR set?")
        self._replay(folder)

    def _say(self, message: str) -> None:
        self._folder.log(message)
        print(f"warning: {message}", file=sys.stderr)

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

        try:
            self._write_end(final, tables, status)
        except wandb.errors.CommError as error:
            self._say(f"W&B went away ({error}): the whole run is logged offline; `wandb sync` uploads it later")
            self._restart_offline()
            self._write_end(final, tables, status)
        self._finish(0 if status == "finished" else 1)

    def _write_end(self, final: dict[str, Any], tables: dict[str, list[dict[str, Any]]], status: str) -> None:
        import wandb

        for key, value in final.items():
            self._run.summary[f"final/{key}"] = value
        self._run.summary["status"] = status
        for name, rows in tables.items():
            columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
            data: list[Any] = [[row.get(column) for column in columns] for row in rows]
            self._run.log({name: wandb.Table(columns=columns, data=data)})

    def _restart_offline(self) -> None:
        """Replace the log that went online, which can hold no tables without a server, by one of the whole run."""
        import wandb

        online = Path(self._run.dir).parent
        self._finish(1)
        wandb.teardown()
        shutil.rmtree(online, ignore_errors=True)
        root = Path(self._config.output_dir).expanduser().resolve()
        self._run = _init(self._config, self._run_id, root, "offline")
        self._replay(self._folder)

    def abort(self) -> None:
        """Close the run as failed, keeping what was logged."""
        if self._run is not None:
            self._finish(1)

    def _finish(self, exit_code: int) -> None:
        """Wait for the upload, but not for ever: W&B's log on disk is complete before that."""
        run, self._run = self._run, None
        log = Path(run.settings.sync_file)
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            where = Path(run.dir).parent
            self._say(f"W&B took longer than {_PATIENCE_S:.0f} s: upload the rest with `wandb sync {where}`")
        if not log.is_file() or not log.stat().st_size:
            self._say(f"W&B wrote nothing to {log} (a full disk?); metrics.jsonl holds everything")


def _init(config: Config, run_id: str, root: Path, mode: Literal["offline", "online"]) -> Any:
    """wandb.init, waiting at most `_PATIENCE_S` for a server.

    Raises:
        wandb.errors.CommError: no answer in that time.
    """
    import wandb

    if mode == "offline":
        _forget_earlier_attempts(root, run_id)
    return wandb.init(
        id=run_id,
        name=run_id,
        project=config.tracking.project,
        entity=config.tracking.entity,
        group=config.tracking.group,
        tags=[config.model.name, config.dataset.name, config.noise.name],
        mode=mode,
        dir=str(root),
        config={"run": config.model_dump(mode="json")},
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_PATIENCE_S,
            finish_timeout=_PATIENCE_S,
            finish_timeout_raises=True,
        ),
    )


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
