"""What a training cost: rows, tokens, FLOPs and seconds, counted as forwarded (a pair counts twice), over all ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.config.budget import Cost, ModelSize, flops


class Meter:
    """Cumulative counts of one training; continues from the last logged row of an interrupted one.

    Args:
        last_row: of metrics.jsonl, empty at the start.
        size: of the model, for the FLOPs.
        cost: passes that every document makes in a step.
    """

    def __init__(self, last_row: dict[str, Any], size: ModelSize, cost: Cost) -> None:
        self.documents = int(last_row.get("train/documents", 0))
        self.rows = int(last_row.get("train/rows", 0))
        self.tokens = int(last_row.get("train/tokens", 0))
        self.flops = float(last_row.get("train/flops", 0.0))
        self._size, self._cost = size, cost
        self._seconds_before = float(last_row.get("train/seconds", 0.0))
        self._tokens_before = self.tokens
        self._started = time.monotonic()

    def count(self, documents: int, tokens: int, squares: int) -> None:
        """Add one effective batch: its documents, their real tokens, and the sum of their squared lengths."""
        self.documents += documents
        self.rows += self._cost.forwards * documents
        self.tokens += self._cost.forwards * tokens
        self.flops += flops(self._size, self._cost, tokens, squares)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block does not count."""
        started = time.monotonic()
        yield
        self._started += time.monotonic() - started

    @property
    def attempt_seconds(self) -> float:
        """Training time of this attempt."""
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def seconds(self) -> float:
        """Training time so far, over all attempts."""
        return self._seconds_before + self.attempt_seconds

    def rate(self) -> float:
        """Real tokens forwarded per second in this attempt."""
        return (self.tokens - self._tokens_before) / self.attempt_seconds

    def row(self) -> dict[str, float]:
        """The counts as metrics: documents trained on (repeats counted), rows and real tokens forwarded, FLOPs."""
        return {
            "train/documents": self.documents,
            "train/rows": self.rows,
            "train/tokens": self.tokens,
            "train/flops": self.flops,
            "train/seconds": round(self.seconds, 3),
            "train/tokens_per_second": round(self.rate(), 1),
        }
