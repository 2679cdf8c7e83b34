"""The tracker of one run: the copy that `tracking` asks for, or none."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.record.folder import RunFolder
from harness.record.tracking.interface import Backend
from harness.record.tracking.layout import result_of, tracked_run
from harness.system.packages import require_package

# tracking.kind -> module and class.
BACKENDS = {
    "wandb": ("harness.record.tracking.wandb_backend", "WandbBackend"),
    "trackio": ("harness.record.tracking.trackio_backend", "TrackioBackend"),
    "mlflow": ("harness.record.tracking.mlflow_backend", "MlflowBackend"),
}


class Tracker:
    """Passes what a run logs to its backend; does nothing with tracking=disabled or after the run's end.

    The history is replayed from metrics.jsonl at the start, so a continued run has one complete copy instead of two
    halves.
    """

    def __init__(self, config: Config, run_id: str, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._backend: Backend | None = None
        if config.tracking.mode != "disabled":
            backend = backend_of(config.tracking.kind)()
            backend.start(tracked_run(config, run_id, folder), folder.metrics())
            self._backend = backend

    def log(self, row: dict[str, Any]) -> None:
        """One step of the history; the same row as in metrics.jsonl."""
        if self._backend is not None:
            self._backend.log(row)

    def finish(self, final: dict[str, Any], status: str) -> None:
        """The final numbers, what the run folder holds besides, and how the run ended."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.finish(result_of(self._config, self._folder, final, status))

    def abort(self, reason: str | None = None) -> None:
        """Close the run without a result, keeping what was logged; `reason` is that of a failure, None for a stop."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        try:
            backend.abort(reason)
        except OSError as error:  # a signal to every process of a job ends W&B's service as well
            self._folder.log(f"warning: the tracker could not be closed ({error}); the run folder holds everything")


def check_tracker(config: Config) -> None:
    """Check that the tracker's package is installed, before anything starts.

    Raises:
        ValueError: it is not installed.
    """
    tracking = config.tracking
    if tracking.mode != "disabled":
        require_package(tracking.kind, f"tracking.kind={tracking.kind}", tracking.kind, "or tracking=disabled")


def backend_of(kind: str) -> type[Backend]:
    """The backend class of a tracker, whose package is imported with it."""
    module, name = BACKENDS[kind]
    found: type[Backend] = getattr(importlib.import_module(module), name)
    return found


def upload_is_due(config: Config, folder: RunFolder, run_id: str) -> bool:
    """Whether the tracker lacks part of a run that is done on disk and that the same command would send."""
    if config.tracking.mode == "disabled":
        return False
    root = Path(config.output_dir).expanduser().resolve()
    return backend_of(config.tracking.kind).upload_is_due(config.tracking, root, run_id, folder)
