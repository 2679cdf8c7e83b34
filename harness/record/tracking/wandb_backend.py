"""Weights & Biases: offline, online, and with a server that is unreachable, fails or is slow."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from harness.config.run import TrackingConfig
from harness.metrics.names import EPOCH, EVAL_LOSS, EXTREMES, GLOBAL_STEP, LEARNING_RATE
from harness.record.files import read_json, write_json
from harness.record.folder import RunFolder
from harness.record.tracking.interface import Result, Row, TrackedRun
from harness.record.tracking.wandb_service import forget_service, gone

# How long a run waits for an unresponsive server, at its start and at its end.
_PATIENCE_S = 30.0
# The same at the end of a run whose weights are uploaded.
_UPLOAD_S = 3600.0
# How much the log of a killed run may lack at its end; wandb's own 15 s can be a whole run of a small model.
_FLUSH_S = 1.0
# First parts of the names that are logged step by step.
_FAMILIES = ("train", "eval", "noise", "probe")
# Characters of a group's name.
_LONGEST = 128
# In the run folder while W&B's server has not all of the run: {"arrived": whether it has some}.
_UNSENT = "unsent.json"


class WandbBackend:
    """One W&B run for one run folder."""

    def start(self, run: TrackedRun, rows: Sequence[Row]) -> None:
        """Open the run, or continue it (see `Backend.start`).

        Raises:
            OSError: W&B would write outside of the output folder.
        """
        self._of, self._folder = run, run.folder
        _isolate(run.root)
        self._run = self._open()
        if not Path(self._run.dir).resolve().is_relative_to(run.root):
            raise OSError(f"W&B writes to {self._run.dir}, outside output_dir={run.root}; is WANDB_DIR set?")
        self._replay(rows)

    def _open(self) -> Any:
        """wandb's run, as configured or, if no server answers, offline."""
        import wandb

        if self._of.tracking.mode == "offline":
            return _init(self._of, "offline")
        try:
            run = _init(self._of, "online")
            write_json(self._folder / _UNSENT, {"arrived": True})
            return run
        except wandb.errors.CommError as error:
            write_json(self._folder / _UNSENT, {"arrived": self._arrived})
            self._say(f"W&B cannot be reached ({error}): {self._later}")
            forget_service()  # it holds the id of the run that did not start
            return _init(self._of, "offline")

    @property
    def _arrived(self) -> bool:
        """Whether the server has part of the run and would get its rows twice from a log of the whole."""
        unsent = self._folder / _UNSENT
        return unsent.exists() and bool(read_json(unsent)["arrived"])

    @property
    def _later(self) -> str:
        sync = "" if self._arrived else ", or run `wandb sync`"
        return f"the whole run is logged offline; repeat the command later to upload what is missing{sync}"

    def _say(self, message: str) -> None:
        self._folder.log(message)
        print(f"warning: {message}", file=sys.stderr)

    def _replay(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._log(row)

    def log(self, row: Row) -> None:
        """One step of the history.

        A killed run continues from a checkpoint, and W&B may have later rows: those are kept, being equal to what would
        be logged again.
        """
        try:
            self._log(row)
        except gone():
            self._revive()
            self._log(row)

    def _log(self, row: Row) -> None:
        if row["step"] >= self._run.step:
            self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def _revive(self) -> None:
        """Continue the run in a new service, with all rows so far."""
        self._folder.log("warning: W&B's service has died; a new one continues the run")
        forget_service()
        self._run = self._open()
        self._replay(self._folder.metrics())

    def finish(self, result: Result) -> None:
        """Final numbers, the rows of each table, the model, the exit code."""
        import wandb

        try:
            complete, reason = self._end(result), f"slower than {_PATIENCE_S:.0f} s"
        except wandb.errors.CommError as error:
            complete, reason = False, str(error)
        except gone():
            self._revive()
            complete, reason = self._end(result), "its service died"
        run = self._run
        if not complete and not run.offline:
            self._say(f"W&B stopped responding ({reason}): {self._later}")
            self._restart_offline(run)
            self._end(result)
        elif not run.offline:
            (self._folder / _UNSENT).unlink(missing_ok=True)
            _forget_earlier_attempts(self._of.root, self._of.run_id)

    def _end(self, result: Result) -> bool:
        """Write the end and close the log; return whether that was in time (online, each table waits for the server).

        Raises:
            wandb.errors.CommError: a table needs a server, and there is none.
        """
        for key, value in result.summary.items():
            self._run.summary[key] = value
        self._run.summary["status"] = result.status
        until = math.inf if self._run.offline else time.monotonic() + _PATIENCE_S
        for name, rows in result.tables.items():
            if time.monotonic() > until:
                return False
            self._run.log({name: _table(rows)})
        self._log_model(result)
        return self._close(0 if result.status == "finished" else 1)

    def _log_model(self, result: Result) -> None:
        """The trained weights as an artifact; W&B copies the files first, so that they may be removed afterwards."""
        import wandb

        if result.model is None:
            return
        artifact = wandb.Artifact(f"model-{self._of.run_id}", type="model", metadata=dict(result.summary))
        for path in sorted(each for each in result.model.rglob("*") if each.is_file()):  # add_dir talks on the screen
            artifact.add_file(str(path), name=path.relative_to(result.model).as_posix())
        self._run.log_artifact(artifact, aliases=["latest", *result.aliases])

    def _restart_offline(self, online: Any) -> None:
        """Replace the online log, which cannot hold tables without a server, by one of the whole run."""
        with suppress(TimeoutError):
            online.finish(exit_code=1)
        forget_service()
        shutil.rmtree(Path(online.dir).parent, ignore_errors=True)
        self._run = _init(self._of, "offline")
        self._replay(self._folder.metrics())

    def abort(self, reason: str | None) -> None:
        """Close the run without a result, keeping what was logged; `reason` is that of a failure, None for a stop."""
        try:
            if reason is not None:
                self._run.summary.update({"status": "failed", "reason": reason})
            in_time = self._close(1)
        except gone() as error:
            forget_service()
            raise OSError(f"W&B's service has died, {type(error).__name__}") from error
        if not in_time:
            self._say(f"W&B took longer than {_PATIENCE_S:.0f} s; repeat the command later to upload what is missing")

    def _close(self, exit_code: int) -> bool:
        """Wait a limited time for the upload (W&B's log on disk is already complete); return whether it was in time."""
        run = self._run
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

    @staticmethod
    def upload_is_due(tracking: TrackingConfig, root: Path, run_id: str, folder: RunFolder) -> bool:
        """Whether a run with tracking=online was cut off from its server and has not been synced since."""
        if tracking.mode != "online" or not (folder / _UNSENT).exists():
            return False
        logs = _offline_logs(root, run_id)
        synced = any(_synced(file).exists() for log in logs for file in log.glob("run-*.wandb"))
        return bool(read_json(folder / _UNSENT)["arrived"]) or not synced


def _table(rows: Sequence[Row]) -> Any:
    import wandb

    columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns=columns, data=[[row.get(column) for column in columns] for row in rows])


def _init(run: TrackedRun, mode: Literal["offline", "online"]) -> Any:
    """wandb.init, waiting at most `_PATIENCE_S` for a server.

    Raises:
        wandb.errors.CommError: no answer in that time.
    """
    import wandb

    if mode == "offline":
        _forget_earlier_attempts(run.root, run.run_id)
    opened = wandb.init(
        id=run.run_id,
        name=run.run_id,
        project=run.tracking.project,
        entity=run.tracking.entity,
        group=_within_limit(run.group),
        job_type=run.job_type,
        tags=run.tags,
        notes=run.notes,
        mode=mode,
        dir=str(run.root),
        config=run.settings,
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_PATIENCE_S,
            x_transaction_log_flush_interval=_FLUSH_S,
            finish_timeout=_UPLOAD_S if run.tracking.log_model else _PATIENCE_S,
            finish_timeout_raises=True,
        ),
    )
    _define(opened)
    return opened


def _define(run: Any) -> None:
    """Charts over train/global_step, as HF's Trainer has them; in the list of runs extremes of a few, the rest last.

    What is logged step by step and not named here stays out of that list: its last value is in the table of metrics.
    Every row has the step itself, so W&B need not add it (it would add 0 to rows of earlier versions).
    """
    run.define_metric(GLOBAL_STEP)
    for family in _FAMILIES:
        run.define_metric(f"{family}/*", step_metric=GLOBAL_STEP, step_sync=False, summary="none")
    for name in (LEARNING_RATE, EPOCH, EVAL_LOSS):
        run.define_metric(name, step_metric=GLOBAL_STEP, step_sync=False)
    for name, extreme in EXTREMES.items():
        run.define_metric(name, step_metric=GLOBAL_STEP, step_sync=False, summary=f"{extreme},last")


def _within_limit(text: str | None) -> str | None:
    """Shorten a text to W&B's 128 characters: its beginning, and a hash of the whole to keep it unique."""
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 11]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _isolate(root: Path) -> None:
    """Keep everything W&B writes below the output folder, and limit its waiting for a failing network."""
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
    """The file that marks a log as synced for `wandb sync`."""
    return log.with_name(f"{log.name}.synced")
