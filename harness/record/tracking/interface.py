"""The interface of a tracker. To add one, write a module with such a class and a line in BACKENDS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.config.run import TrackingConfig
from harness.record.folder import RunFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class TrackedRun:
    """One run, as every tracker shows it.

    Attributes:
        run_id: its name, the same whenever it continues.
        folder: where its files are.
        root: the output folder; whatever a tracker writes on this machine stays below it.
        tracking: how to track it: mode, project, entity, log_model.
        settings: the resolved config with its keys at the top, plus what our readers need.
        group: name of the sweep; None for a single run.
        job_type: "train", or "eval" for a run that only answers, is judged or is probed.
        tags: model, data set, noise, experiment, and the user's own.
        notes: the user's.
    """

    run_id: str
    folder: RunFolder
    root: Path
    tracking: TrackingConfig
    settings: dict[str, Any]
    group: str | None
    job_type: str
    tags: tuple[str, ...]
    notes: str | None


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        summary: the few final numbers for a list of runs.
        tables: rows by the table's name (columns: all their keys); "metrics" has every final number.
        status: "finished" or "diverged".
        model: folder of the trained weights, if they are to be uploaded.
        aliases: names for these weights.
    """

    summary: dict[str, float]
    tables: dict[str, list[Row]]
    status: str
    model: Path | None = None
    aliases: tuple[str, ...] = ()


class Backend(Protocol):
    """One run in one tracker. Created without arguments; started once, then ended once by `finish` or `abort`.

    An interrupted run is started again under the same run_id, with all rows so far, and the tracker must end up with
    each of them once. No method may delay the run for long, or fail it because a server is unavailable.
    """

    def start(self, run: TrackedRun, rows: Sequence[Row]) -> None:
        """Open the run, or continue it.

        Args:
            rows: the history so far, as in metrics.jsonl: {"step": n, metric: number, or None for NaN and infinity}.
        """

    def log(self, row: Row) -> None:
        """One step of the history."""

    def finish(self, result: Result) -> None:
        """Final numbers, tables, model, and the end."""

    def abort(self, reason: str | None) -> None:
        """End without a result, keeping what was logged; `reason` is that of a failure, None for a stop."""

    @staticmethod
    def upload_is_due(tracking: TrackingConfig, root: Path, run_id: str, folder: RunFolder) -> bool:
        """Whether the tracker lacks part of a run that is done on disk and that the same command would send."""
