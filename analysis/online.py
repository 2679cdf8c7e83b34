"""Runs from the W&B API; the server is the one that `wandb login` or WANDB_BASE_URL names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from analysis.source import RunRecord
from analysis.wandb_copy import history_rows, record_of, table_rows

# W&B calls a run "crashed" when it stopped sending without an end.
_UNFINISHED = {
    "crashed": "incomplete",
    "killed": "incomplete",
    "preempted": "incomplete",
    "preempting": "running",
}


class ApiDetails:
    """A run's history and tables, fetched when asked for."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def history(self) -> list[dict[str, Any]]:
        return history_rows(self.run.scan_history(use_cache=False))

    def outputs(self) -> list[dict[str, Any]]:
        return self._table("generations")

    def annotations(self) -> list[dict[str, Any]]:
        return self._table("annotations")

    def _table(self, name: str) -> list[dict[str, Any]]:
        reference = self.run.summary_metrics.get(name)
        if not reference:
            return []
        file = self.run.file(reference["path"])
        with tempfile.TemporaryDirectory() as folder, file.download(root=folder) as opened:
            return table_rows(json.load(opened))


def read_project(project: str, filters: Mapping[str, Any] | None = None, group: str | None = None) -> list[RunRecord]:
    """The runs of a project ("entity/project"), of one group (one sweep), or by the API's own filters.

    Raises:
        ValueError: the server cannot be reached, does not know the account, or has no such project.
    """
    import wandb

    wanted = {**(filters or {}), **({"group": group} if group else {})}
    try:
        found = list(wandb.Api(timeout=30).runs(project, filters=wanted, lazy=False))
    except (wandb.errors.Error, ValueError) as error:
        raise ValueError(f"source={project}: no such folder, and W&B answers: {error}") from error
    return sorted((_record(run) for run in found), key=lambda run: run.run_id)


def _record(run: Any) -> RunRecord:
    summary = dict(run.summary_metrics)
    seen = getattr(run, "heartbeat_at", None) or run.created_at
    finished_at = datetime.fromisoformat(seen).timestamp()
    return record_of(run.id, run.config, summary, _ending(run.state, summary), run.url, finished_at, ApiDetails(run))


def _ending(state: str, summary: Mapping[str, Any]) -> tuple[str, str]:
    if state in ("running", *_UNFINISHED):
        return _UNFINISHED.get(state, state), f"W&B says {state}"
    if summary.get("status") == "diverged":
        return "diverged", "training met NaN or infinity"
    if state == "finished" and summary.get("status") == "finished":
        return "finished", ""
    return "failed", f"W&B says {state}, without a result"
