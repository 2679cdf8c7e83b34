"""What every source of runs gives: one record per run, whose details are read only when they are needed.

Three modules make records: disk.py (run folders), offline.py (W&B logs on disk), online.py (the W&B API).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

# finished and diverged runs reached their end; failed ones stopped with an error; running and incomplete ones have
# no end yet, and only the former have a process that can still reach it; foreign ones are not the harness's.
STATUSES = ("finished", "diverged", "failed", "running", "incomplete", "foreign")


class Details(Protocol):
    """The large parts of a run."""

    def history(self) -> list[dict[str, Any]]:
        """Logged steps: {"step": n, metric: number or None}."""
        ...

    def outputs(self) -> list[dict[str, Any]]:
        """Rows of model_outputs.json."""
        ...

    def annotations(self) -> list[dict[str, Any]]:
        """Rows of annotations.json."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """One run: its resolved settings and final numbers.

    config: as the harness wrote it, nested. final: metric -> number. origin: folder or address, for messages.
    reason: why there is no result. finished_at: Unix seconds, 0 if there is no end.
    """

    run_id: str
    status: str
    config: dict[str, Any]
    final: dict[str, float]
    origin: str
    details: Details
    reason: str = ""
    finished_at: float = 0.0
