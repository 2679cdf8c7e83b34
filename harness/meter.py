"""What a training cost: rows, tokens and seconds, counted as forwarded (a pair counts twice)."""

from __future__ import annotations

import time
from typing import Any


class Meter:
    """Cumulative counts of one training; continues from the last logged row of an interrupted one."""

    def __init__(self, last_row: dict[str, Any]) -> None:
        self.documents = int(last_row.get("train/documents", 0))
        self.rows = int(last_row.get("train/rows", 0))
        self.tokens = int(last_row.get("train/tokens", 0))
        self._seconds_before = float(last_row.get("train/seconds", 0.0))
        self._tokens_before = self.tokens
        self._started = time.monotonic()

    def count(self, documents: int, rows: int, tokens: int) -> None:
        """Add one effective batch: distinct documents, documents forwarded, real tokens forwarded."""
        self.documents += documents
        self.rows += rows
        self.tokens += tokens

    @property
    def seconds(self) -> float:
        """Training time so far, over all attempts."""
        return self._seconds_before + time.monotonic() - self._started

    def rate(self) -> float:
        """Real tokens forwarded per second in this attempt."""
        return (self.tokens - self._tokens_before) / max(time.monotonic() - self._started, 1e-9)

    def row(self) -> dict[str, float]:
        """The counts as metrics."""
        return {
            "train/documents": self.documents,
            "train/rows": self.rows,
            "train/tokens": self.tokens,
            "train/seconds": round(self.seconds, 3),
            "train/tokens_per_second": round(self.rate(), 1),
        }
