"""What every source of runs gives: one record per run, whose details are read only when they are needed.

Three modules make records: disk.py (run folders), offline.py (W&B logs on disk), online.py (the W&B API).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# finished and diverged runs reached their end; failed ones stopped with an error; running and incomplete ones have
# no end yet, and only the former have a process that can still reach it; foreign ones are not the harness's.
STATUSES = ("finished", "diverged", "failed", "running", "incomplete", "foreign")
DIVERGED, RUNNING, FOREIGN = "training met NaN or infinity", "not finished yet", "its settings are not this harness's"

RecordPart = Literal["history", "outputs", "annotations"]


class Details:
    """The large parts of a run; an empty run has none."""

    def history(self) -> list[dict[str, Any]]:
        """Logged steps: {"step": n, metric: number or None}."""
        return []

    def outputs(self) -> list[dict[str, Any]]:
        """Rows of model_outputs.json."""
        return []

    def annotations(self) -> list[dict[str, Any]]:
        """Rows of annotations.json."""
        return []

    def is_here(self, part: RecordPart) -> bool:
        """Whether a part can be read without a network."""
        del part
        return True

    def fetch(self, part: RecordPart) -> None:
        """Bring a part that is not here."""


@dataclass(frozen=True)
class RunRecord:
    """One run: its resolved settings and final numbers.

    config: as the harness wrote it, nested. final: metric -> number. origin: folder or address, for messages.
    reason: why there is no result. finished_at: Unix seconds, 0 if there is no end. step: the last logged one, where
    the source says so without its history.
    """

    run_id: str
    status: str
    config: dict[str, Any]
    final: dict[str, float]
    origin: str
    details: Details
    reason: str = ""
    finished_at: float = 0.0
    step: int | None = None

    @property
    def group(self) -> str | None:
        """The sweep that it belongs to."""
        found: str | None = (self.config.get("tracking") or {}).get("group")
        return found


def is_of_harness(config: Any) -> bool:
    """Whether settings are those of one of our runs: any other program may write a config, too."""
    return isinstance(config, dict) and all(isinstance(config.get(key), dict) for key in ("model", "noise", "train"))
