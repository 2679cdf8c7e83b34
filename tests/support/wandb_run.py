"""What the loopback W&B server keeps of a run: rows as its file stream brings them, and as Parquet exports them."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

# A history in Parquet, beside the files of its run.
EXPORT = "history.parquet"


@dataclass
class StoredRun:
    """What the server knows of one run."""

    name: str
    project: str
    entity: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    artifacts: list[dict[str, Any]] = field(default_factory=list)  # that were created, with type and aliases
    display_name: str = ""
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    heartbeat: float = 0.0
    exported: int = 0  # rows of the history that are in a Parquet file

    def touch(self) -> None:
        self.heartbeat = time.time()

    @property
    def address(self) -> str:
        return f"{quote(self.project)}/{quote(self.name)}"


def receive_stream(run: StoredRun, chunk: dict[str, Any]) -> None:
    """Take in a piece of a run's file stream: history rows, the summary, the end."""
    run.touch()
    files = chunk.get("files") or {}
    history = files.get("wandb-history.jsonl", {"offset": len(run.history), "content": []})
    # As the real server: rows are written at their offset, so that a piece sent twice is there once. Its answer to
    # UpsertBucket is the number of rows it has, and there the client goes on, also in `wandb sync` (wandb's own
    # test_syncs_resumed_run needs it so): the log of a whole run is appended to what had arrived.
    rows = [json.loads(row) for row in history["content"]]
    run.history[history["offset"] : history["offset"] + len(rows)] = rows
    for row in files.get("wandb-summary.json", {}).get("content", []):
        run.summary = json.loads(row)
    if chunk.get("complete"):
        run.state = "finished" if chunk.get("exitcode") == 0 else "failed"


def parquet(run: StoredRun) -> bytes:
    """The exported rows as W&B writes them: one column a metric, null where a row has none, no tables."""
    import pyarrow
    import pyarrow.parquet

    rows = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in run.history]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: pyarrow.array([row.get(key) for row in rows[: run.exported]]) for key in keys}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
