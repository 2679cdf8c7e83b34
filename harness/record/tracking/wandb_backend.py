"""Weights & Biases: offline, online, and with a server or a service that is away, dies, fails or is slow."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from harness.config.run import TrackingConfig
from harness.record.files import read_json, write_json
from harness.record.folder import RunFolder
from harness.record.tracking.interface import Result, Row, TrackedRun
from harness.record.tracking.wandb_run import forget_earlier_attempts, isolate, offline_logs, open_run, synced
from harness.record.tracking.wandb_service import forget_service, gone

# How long a run waits for an unresponsive server, at its start and at its end.
_PATIENCE_S = 30.0
# How many services a run may lose before it goes on without W&B.
_NEW_SERVICES = 3
# In the run folder while W&B has not all of the run: {"arrived": whether the server has some of it, "given_up": whether
# tracking was given up in the middle}.
_UNSENT = "unsent.json"


class WandbBackend:
    """One W&B run for one run folder."""

    def start(self, run: TrackedRun, rows: Sequence[Row]) -> None:
        """Open the run, or continue it (see `Backend.start`).

        Raises:
            OSError: W&B would write outside of the output folder.
        """
        self._of, self._folder = run, run.folder
        self._run: Any = None
        self._deaths = 0
        isolate(run.root)
        self._outlive(lambda: self._replay(rows))

    def _outlive(self, action: Callable[[], None]) -> None:
        """Do `action`; if W&B's service dies, do it again in a new one, which gets all rows so far first.

        Once W&B is given up, do nothing.
        """
        while self._deaths <= _NEW_SERVICES:
            try:
                if self._run is None:
                    self._run = self._open()
                    self._replay(self._folder.metrics())
                action()
                return
            except gone() as error:
                self._bury(type(error).__name__)

    def _bury(self, how: str) -> None:
        """Forget a dead service, and give W&B up if it was the last that this run may have."""
        forget_service()
        self._run = None
        self._deaths += 1
        if self._deaths <= _NEW_SERVICES:
            self._folder.log(f"warning: W&B's service has died ({how}); a new one continues the run")
            return
        write_json(self._folder / _UNSENT, {"arrived": self._arrived, "given_up": True})
        self._say(
            f"W&B's service has died {self._deaths} times ({how}): the run goes on without W&B; metrics.jsonl holds "
            "everything, repeat the command later to complete W&B's copy"
        )

    def _open(self) -> Any:
        """wandb's run, as configured or, if no server answers, offline."""
        import wandb

        if self._of.tracking.mode == "offline":
            return self._init("offline")
        try:
            run = self._init("online")
            write_json(self._folder / _UNSENT, {"arrived": True})
            return run
        except wandb.errors.CommError as error:
            write_json(self._folder / _UNSENT, {"arrived": self._arrived})
            self._say(f"W&B cannot be reached ({error}): {self._later}")
            forget_service()  # it holds the id of the run that did not start
            return self._init("offline")

    def _init(self, mode: Literal["offline", "online"]) -> Any:
        run = open_run(self._of, mode, _PATIENCE_S)
        if not Path(run.dir).resolve().is_relative_to(self._of.root):
            raise OSError(f"W&B writes to {run.dir}, outside output_dir={self._of.root}; is WANDB_DIR set?")
        return run

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
        self._outlive(lambda: self._log(row))

    def _log(self, row: Row) -> None:
        if row["step"] >= self._run.step:
            self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def finish(self, result: Result) -> None:
        """Final numbers, the rows of each table, the model, the exit code."""
        self._outlive(lambda: self._finish(result))

    def _finish(self, result: Result) -> None:
        import wandb

        try:
            complete, reason = self._end(result), f"slower than {_PATIENCE_S:.0f} s"
        except wandb.errors.CommError as error:
            complete, reason = False, str(error)
        run, unsent = self._run, self._folder / _UNSENT
        if not complete and not run.offline:
            self._say(f"W&B stopped responding ({reason}): {self._later}")
            self._restart_offline(run)
            self._end(result)
        elif not run.offline:
            unsent.unlink(missing_ok=True)
            forget_earlier_attempts(self._of.root, self._of.run_id)
        elif unsent.exists() and self._of.tracking.mode == "offline":  # W&B was given up before
            write_json(unsent, {"arrived": self._arrived})

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
        self._run = self._init("offline")
        self._replay(self._folder.metrics())

    def abort(self, reason: str | None) -> None:
        """Close the run without a result, keeping what was logged; `reason` is that of a failure, None for a stop."""
        if self._run is None:  # given up
            return
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
            synced(log).touch()  # for `wandb sync`: it would append all rows to those that arrived
        return in_time

    @staticmethod
    def upload_is_due(tracking: TrackingConfig, root: Path, run_id: str, folder: RunFolder) -> bool:
        """Whether W&B was given up, or a run with tracking=online was cut off from its server and not synced since."""
        if not (folder / _UNSENT).exists():
            return False
        unsent = read_json(folder / _UNSENT)
        if unsent.get("given_up") or tracking.mode != "online":
            return bool(unsent.get("given_up"))
        logs = offline_logs(root, run_id)
        is_synced = any(synced(file).exists() for log in logs for file in log.glob("run-*.wandb"))
        return bool(unsent["arrived"]) or not is_synced


def _table(rows: Sequence[Row]) -> Any:
    import wandb

    columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns=columns, data=[[row.get(column) for column in columns] for row in rows])
