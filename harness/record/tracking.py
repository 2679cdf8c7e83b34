"""Weights & Biases, the only place that knows it. Files on disk are the truth; this is a copy with the same numbers."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from harness.config import Config
from harness.record import RunFolder, read_json, write_json
from harness.record.identity import file_fingerprints

# What a run waits for a server that does not answer, at its start and at its end.
_PATIENCE_S = 30.0
# What the log of a killed run may lack at its end; wandb's own 15 s are a whole run of a small model.
_FLUSH_S = 1.0
# Characters of a group's name.
_LONGEST = 128
# In the run folder while W&B's server has not all of the run: {"arrived": whether it has some}.
_UNSENT = "unsent.json"


class Tracker:
    """One W&B run for one run folder; does nothing with tracking=disabled.

    The history is replayed from metrics.jsonl at the start, so an interrupted run that is continued has
    one complete W&B run, not two halves.
    """

    def __init__(self, config: Config, run_id: str, folder: RunFolder) -> None:
        self._run: Any = None
        self._config, self._run_id, self._folder = config, run_id, folder
        self._root = Path(config.output_dir).expanduser().resolve()
        if config.tracking.mode != "disabled":
            _isolate(self._root)
            self._run = self._start()
            if not Path(self._run.dir).resolve().is_relative_to(self._root):
                raise OSError(f"W&B writes to {self._run.dir}, outside output_dir={self._root}; is WANDB_DIR set?")
            self._replay()

    def _start(self) -> Any:
        """wandb's run, as the settings say or, where no server answers, offline."""
        import wandb

        if self._config.tracking.mode == "offline":
            return self._init("offline")
        try:
            run = self._init("online")
            write_json(self._folder / _UNSENT, {"arrived": True})
            return run
        except wandb.errors.CommError as error:
            write_json(self._folder / _UNSENT, {"arrived": self._arrived})
            self._say(f"W&B cannot be reached ({error}): {self._later}")
            wandb.teardown()  # its service holds the id of the run that did not start
            return self._init("offline")

    def _init(self, mode: Literal["offline", "online"]) -> Any:
        return _init(self._config, self._run_id, self._root, mode)

    @property
    def _arrived(self) -> bool:
        """Whether the server has a part of the run, and would get its rows twice from the log of the whole."""
        unsent = self._folder / _UNSENT
        return unsent.exists() and bool(read_json(unsent)["arrived"])

    @property
    def _later(self) -> str:
        sync = "" if self._arrived else ", and so does `wandb sync`"
        return f"the whole run is logged offline; the same command uploads later what is missing there{sync}"

    def _say(self, message: str) -> None:
        self._folder.log(message)
        print(f"warning: {message}", file=sys.stderr)

    def _replay(self) -> None:
        for row in self._folder.metrics():
            self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        """One step of the history; the same row as in metrics.jsonl.

        A run that was killed goes on from a checkpoint, and W&B may have rows from after it: those stay as they are,
        equal to what would be logged again.
        """
        if self._run is not None and row["step"] >= self._run.step:
            self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def finish(self, final: dict[str, Any], tables: dict[str, list[dict[str, Any]]], status: str) -> None:
        """Final numbers under final/..., the rows of each file in `tables` (columns: all their keys), the exit code."""
        if self._run is None:
            return
        import wandb

        run = self._run
        try:
            complete, reason = self._end(final, tables, status), f"slower than {_PATIENCE_S:.0f} s"
        except wandb.errors.CommError as error:
            complete, reason = False, str(error)
        if not complete and not run.offline:
            self._say(f"W&B went away ({reason}): {self._later}")
            self._restart_offline(run)
            self._end(final, tables, status)
        elif not run.offline:
            (self._folder / _UNSENT).unlink(missing_ok=True)
            _forget_earlier_attempts(self._root, self._run_id)

    def _end(self, final: dict[str, Any], tables: dict[str, list[dict[str, Any]]], status: str) -> bool:
        """Write the end and close the log; whether that was over in time (online, each table waits for the server).

        Raises:
            wandb.errors.CommError: a table needs a server, and there is none.
        """
        import wandb

        for key, value in final.items():
            self._run.summary[f"final/{key}"] = value
        self._run.summary["status"] = status
        until = math.inf if self._run.offline else time.monotonic() + _PATIENCE_S
        for name, rows in tables.items():
            if time.monotonic() > until:
                return False
            columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
            data: list[Any] = [[row.get(column) for column in columns] for row in rows]
            self._run.log({name: wandb.Table(columns=columns, data=data)})
        return self._finish(0 if status == "finished" else 1)

    def _restart_offline(self, online: Any) -> None:
        """Replace the log that went online, which can hold no tables without a server, by one of the whole run."""
        import wandb

        with suppress(TimeoutError):
            online.finish(exit_code=1)
        wandb.teardown()
        shutil.rmtree(Path(online.dir).parent, ignore_errors=True)
        self._run = self._init("offline")
        self._replay()

    def abort(self, reason: str | None = None) -> None:
        """Close the run without a result, keeping what was logged; `reason` is that of a failure, None for a stop."""
        if self._run is None:
            return
        if reason is not None:
            self._run.summary.update({"status": "failed", "reason": reason})
        if not self._finish(1):
            self._say(f"W&B took longer than {_PATIENCE_S:.0f} s; the same command goes on with what is missing there")

    def _finish(self, exit_code: int) -> bool:
        """Wait for the upload, but not for ever: W&B's log on disk is complete before that. Whether it was in time."""
        run, self._run = self._run, None
        log, in_time = Path(run.settings.sync_file), True
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            in_time = False
        if not log.is_file() or not log.stat().st_size:
            self._say(f"W&B wrote nothing to {log} (a full disk?); metrics.jsonl holds everything")
        elif run.offline and self._arrived:
            _synced(log).touch()  # for `wandb sync`: it would append all rows to those that arrived
        return in_time


def upload_is_due(config: Config, folder: RunFolder, run_id: str) -> bool:
    """Whether a run with tracking=online was cut off from its server, and `wandb sync` has not made up for it."""
    if config.tracking.mode != "online" or not (folder / _UNSENT).exists():
        return False
    logs = _offline_logs(Path(config.output_dir).expanduser(), run_id)
    synced = any(_synced(file).exists() for log in logs for file in log.glob("run-*.wandb"))
    return bool(read_json(folder / _UNSENT)["arrived"]) or not synced


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
        group=_within_limit(config.tracking.group),
        tags=[config.model.name, config.dataset.name, config.noise.name],
        mode=mode,
        dir=str(root),
        config={"run": config.model_dump(mode="json"), "files": file_fingerprints(config)},
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_PATIENCE_S,
            x_transaction_log_flush_interval=_FLUSH_S,
            finish_timeout=_PATIENCE_S,
            finish_timeout_raises=True,
        ),
    )


def _within_limit(text: str | None) -> str | None:
    """W&B takes 128 characters; of a longer text the beginning, and a hash of the whole so that it stays apart."""
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 11]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


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
    for folder in _offline_logs(root, run_id):
        shutil.rmtree(folder)


def _offline_logs(root: Path, run_id: str) -> list[Path]:
    return list((root / "wandb").glob(f"offline-run-*-{run_id}"))


def _synced(log: Path) -> Path:
    """The file by which `wandb sync` knows a log that it need not upload."""
    return log.with_name(f"{log.name}.synced")
