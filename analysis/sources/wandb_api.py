"""Runs from the W&B API; the server is the one that `wandb login` or WANDB_BASE_URL names.

The list of runs is read each time, 50 per request, with settings and final numbers. Histories and tables cost two to
four requests per run, so they are cached: histories until the run changes, tables by their checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

from analysis.sources.fetch import SourceSilent, fetch
from analysis.sources.record import RUNNING, Details, RecordPart, RunRecord
from analysis.sources.wandb_rows import ending_of, final_of, history_rows, is_ours, output_rows, record_of, table_rows
from harness.record import read_json, write_text
from harness.record.cache import cache_dir

# W&B calls a run "crashed" if it stopped sending without finishing.
_UNFINISHED = ("crashed", "killed", "preempted")
_RUNNING = ("running", "pending", "preempting")
_TABLES: dict[RecordPart, str] = {"metrics": "metrics", "outputs": "generations", "annotations": "annotations"}
# Longest wait for one request; until then the client retries while the server is busy.
_PATIENCE_S = 30


class ApiDetails(Details):
    """A run's history and tables, in files below `cache` once fetched."""

    def __init__(self, run: Any, cache: Path) -> None:
        self.run, self.cache = run, cache

    def history(self) -> list[dict[str, Any]]:
        return self._rows("history")

    def outputs(self) -> list[dict[str, Any]]:
        return output_rows(self._rows("outputs"))

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of the table with every final number; none of runs of the first layout."""
        return self._rows("metrics")

    def annotations(self) -> list[dict[str, Any]]:
        return self._rows("annotations")

    def is_here(self, part: RecordPart) -> bool:
        return not self._has(part) or self._file(part).is_file()

    def fetch(self, part: RecordPart) -> None:
        """Cache a part, replacing what was there before the run changed.

        Raises:
            ValueError: W&B does not return it.
        """
        rows = self._history() if part == "history" else self._table(_TABLES[part])
        for old in self.cache.glob(f"{part}-*.json"):
            old.unlink(missing_ok=True)
        write_text(self._file(part), json.dumps(rows))

    def _rows(self, part: RecordPart) -> list[dict[str, Any]]:
        if not self._has(part):
            return []
        fetch([self], part)
        rows: list[dict[str, Any]] = read_json(self._file(part))
        return rows

    def _has(self, part: RecordPart) -> bool:
        return part == "history" or bool(self._reference(_TABLES[part]))

    def _file(self, part: RecordPart) -> Path:
        """The cache file, named by what distinguishes versions."""
        version = (
            [self.run.heartbeat_at, self.run.history_line_count]
            if part == "history"
            else self._reference(_TABLES[part])
        )
        digest = hashlib.sha256(json.dumps(version, sort_keys=True).encode()).hexdigest()[:16]
        return self.cache / f"{part}-{digest}.json"

    def _reference(self, table: str) -> Any:
        return self.run.summary_metrics.get(table)

    def _history(self) -> list[dict[str, Any]]:
        with _asking(f"{self.run.url}: history"):
            return history_rows(self.run.scan_history(use_cache=False))

    def _table(self, name: str) -> list[dict[str, Any]]:
        path = self._reference(name)["path"]
        with _asking(f"{self.run.url}: table {name}"), TemporaryDirectory() as folder:
            found = list(self.run.files(names=[path]))
            if not found:
                raise ValueError(f"{path} is not among its files: was the upload cut off?")
            found[0].download(root=folder).close()
            return table_rows(read_json(Path(folder) / path))


def read_project(project: str, filters: Mapping[str, Any] | None = None, group: str | None = None) -> list[RunRecord]:
    """The runs of a project ("entity/project"), of one group (one sweep), or by the API's own filters.

    Raises:
        ValueError: the server cannot be reached, does not know the account, or has no such project or run.
    """
    import wandb

    wanted = {**(filters or {}), **({"group": group} if group else {})}
    with _asking(f"source={project}: no such folder, and W&B says"):
        api = wandb.Api(timeout=_PATIENCE_S)
        found = list(api.runs(project, filters=wanted, lazy=False))
    if not found:
        said = " that the filters leave" if filters else f" of group={group}" if group else ""
        raise ValueError(f"source={project}: W&B has no run{said} there")
    host = urlparse(api.settings["base_url"]).netloc
    cache = cache_dir() / "wandb" / host / project
    details = [ApiDetails(run, cache / run.id) for run in found]
    try:
        fetch([each for each in details if is_ours(each.run.config)], "metrics")
    except SourceSilent:
        raise
    except ValueError:  # of some runs: each of them says so below
        pass
    return [_record(each) for each in details]


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn W&B's failures into one line; a run deleted meanwhile is None inside its client."""
    from wandb.errors import Error
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (Error, WandbApiFailedError, ValueError, LookupError, TypeError, OSError) as error:
        said = str(error)
        if "did not respond in time" in said:  # raised by wandb for its helper process, which waits for the server
            said = f"no answer within {_PATIENCE_S} s"
        raise ValueError(f"{what}: {said}") from error


def _record(details: ApiDetails) -> RunRecord:
    run, summary = details.run, dict(details.run.summary_metrics)
    seen = datetime.fromisoformat(getattr(run, "heartbeat_at", None) or run.created_at).timestamp()
    ending = _ending(run.state, summary)
    try:
        final = final_of(summary, details.metrics()) if is_ours(run.config) else {}
    except SourceSilent:
        raise
    except (ValueError, LookupError, TypeError) as error:
        return RunRecord(run.id, "unreadable", {}, {}, run.url, Details(), str(error), seen)
    found = record_of(run.id, run.config, final, ending, run.url, seen, details)
    return replace(found, step=summary.get("_step"))


def _ending(state: str, summary: Mapping[str, Any]) -> tuple[str, str]:
    if state in _RUNNING:
        return "running", RUNNING
    if state in _UNFINISHED:
        return "incomplete", f"interrupted: W&B says {state}"
    return ending_of(summary, state == "finished", f"W&B says {state}")
