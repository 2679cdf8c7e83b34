"""Trackio: a local dashboard in the browser, `trackio show`, without an account and without a server to run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from harness.config.run import TrackingConfig
from harness.record.folder import RunFolder
from harness.record.tracking.interface import Result, Row, TrackedRun

# With these set trackio would send runs to a server.
_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioBackend:
    """One Trackio run for one run folder, in output_dir/trackio."""

    def start(self, run: TrackedRun, rows: Sequence[Row]) -> None:
        """Open a new run: the remains of an interrupted attempt are removed, and its rows are logged again.

        Raises:
            OSError: Trackio was imported before and writes to another folder.
        """
        self._of, self._step = run, 0
        os.environ.setdefault("TRACKIO_DIR", str(run.root / "trackio"))  # read once, when trackio is imported
        import trackio

        written = Path(trackio.utils.TRACKIO_DIR).resolve()
        if not written.is_relative_to(run.root):
            raise OSError(f"Trackio writes to {written}, outside output_dir={run.root}; is TRACKIO_DIR set?")
        with _quietly():
            _forget(run)
            self._run = trackio.init(
                run.tracking.project,
                run.run_id,
                run.group,
                config=_config(run),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        """One step of the history, without values that are not finite, which charts cannot show."""
        self._step = row["step"]
        with _quietly():
            self._run.log({key: value for key, value in row.items() if key != "step" and value is not None}, self._step)

    def finish(self, result: Result) -> None:
        """Final numbers at the last step (Trackio has no summary), tables, model, the end."""
        import trackio

        with _quietly():
            self._run.log({**result.summary, "status": result.status}, self._step)
            for name, rows in result.tables.items():
                columns = list(dict.fromkeys(key for row in rows for key in row))
                data = [[_cell(row.get(column)) for column in columns] for row in rows]
                if data:
                    self._run.log({name: trackio.Table(columns=columns, data=data)}, self._step)
            if result.model is not None:
                name = f"model-{self._of.run_id}"
                self._run.log_artifact(result.model, name, "model", aliases=["latest", *result.aliases])
            trackio.finish()

    def abort(self, reason: str | None) -> None:
        """The end without a result; a failure is an alert on the dashboard."""
        import trackio

        with _quietly():
            if reason is not None:
                self._run.alert("failed", reason, trackio.AlertLevel.ERROR)
            trackio.finish()

    @staticmethod
    def upload_is_due(tracking: TrackingConfig, root: Path, run_id: str, folder: RunFolder) -> bool:
        """Never: nothing is sent anywhere."""
        del tracking, root, run_id, folder
        return False


def _forget(run: TrackedRun) -> None:
    import trackio

    with suppress(ValueError):  # there is no such project yet
        for earlier in trackio.Api().runs(run.tracking.project):
            if earlier.name == run.run_id:
                earlier.delete()


def _config(run: TrackedRun) -> dict[str, Any]:
    """Settings by dotted key, because the dashboard groups and filters by keys at the top."""
    flat = _flat(run.settings)
    return {**flat, "job_type": run.job_type, "tags": ", ".join(run.tags), "notes": run.notes or ""}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _cell(value: Any) -> Any:
    """Numbers and text; Trackio shows no other."""
    return value if isinstance(value, int | float | str | None) else str(value)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence stdout, where trackio reports each run, and use no server, whatever the environment says."""
    kept = {name: os.environ.pop(name) for name in _REMOTE if name in os.environ}
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        os.environ |= kept
