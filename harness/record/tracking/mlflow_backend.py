"""MLflow: a database in output_dir that `mlflow ui` shows; nothing is sent anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.run import TrackingConfig
from harness.record.folder import RunFolder
from harness.record.tracking.interface import Result, Row, TrackedRun
from harness.system.locks import locked

# MLflow's limits: length of a parameter, and numbers of parameters and metrics per call.
_LONGEST, _MOST_PARAMETERS, _MOST_METRICS = 6000, 100, 1000


class MlflowBackend:
    """One MLflow run for one run folder."""

    def start(self, run: TrackedRun, rows: Sequence[Row]) -> None:
        """Open a new run: an interrupted attempt is deleted, and its rows are logged again."""
        for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_LOGGING_LEVEL", "WARNING")):
            os.environ.setdefault(name, value)  # read when mlflow is imported
        from mlflow.tracking import MlflowClient

        run.root.mkdir(parents=True, exist_ok=True)
        with locked(run.root / ".mlflow.lock"):  # the first of several simultaneous runs creates the tables
            self._client = MlflowClient(f"sqlite:///{run.root / 'mlflow.db'}")
            experiment = self._experiment(run)
        for earlier in self._client.search_runs([experiment], f"attributes.run_name = '{run.run_id}'"):
            self._client.delete_run(earlier.info.run_id)
        tags = {
            "job_type": run.job_type,
            "group": run.group,
            "tags": ", ".join(run.tags),
            "mlflow.note.content": run.notes,
        }
        known = {key: value for key, value in tags.items() if value}
        self._id = self._client.create_run(experiment, run_name=run.run_id, tags=known).info.run_id
        self._settings(run)
        self._step = 0
        for row in rows:
            self.log(row)

    def _experiment(self, run: TrackedRun) -> str:
        found = self._client.get_experiment_by_name(run.tracking.project)
        if found is not None:
            return str(found.experiment_id)
        artifacts = (run.root / "mlartifacts").as_uri()
        return str(self._client.create_experiment(run.tracking.project, artifact_location=artifacts))

    def _settings(self, run: TrackedRun) -> None:
        from mlflow.entities import Param

        found = [Param(key, str(value)[:_LONGEST]) for key, value in _flat(run.settings)]
        for start in range(0, len(found), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=found[start : start + _MOST_PARAMETERS])

    def log(self, row: Row) -> None:
        """One step of the history, without values that are not finite."""
        self._step = row["step"]
        self._metrics({key: value for key, value in row.items() if key != "step"}, row["step"])

    def _metrics(self, numbers: Mapping[str, float | None], step: int) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        known = [Metric(key, float(value), now, step) for key, value in numbers.items() if value is not None]
        for start in range(0, len(known), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=known[start : start + _MOST_METRICS])

    def finish(self, result: Result) -> None:
        """Final numbers at the last step, tables (as MLflow's evaluation view reads them), model, the end."""
        self._metrics(result.summary, self._step)
        self._client.set_tag(self._id, "status", result.status)
        for name, rows in result.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
            self._client.log_dict(self._id, table, f"{name}.json")
        if result.model is not None:
            self._client.log_artifacts(self._id, str(result.model), "model")
        self._client.set_terminated(self._id, "FINISHED" if result.status == "finished" else "FAILED")

    def abort(self, reason: str | None) -> None:
        """The end without a result, keeping what was logged."""
        if reason is not None:
            self._client.set_tag(self._id, "reason", reason)
        self._client.set_terminated(self._id, "KILLED" if reason is None else "FAILED")

    @staticmethod
    def upload_is_due(tracking: TrackingConfig, root: Path, run_id: str, folder: RunFolder) -> bool:
        """Never: nothing is sent anywhere."""
        del tracking, root, run_id, folder
        return False


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
