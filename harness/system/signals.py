"""SIGTERM (a scheduler's preemption) and Ctrl-C as an exit that unwinds: checkpoints and W&B are closed in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Which signal has asked this process to leave, if any."""

    number: int | None = None

    def check(self) -> None:
        """Leave if asked to: some library's bare `except` may have swallowed what the signal raised."""
        if self.number is not None:
            self.leave()

    def leave(self) -> NoReturn:
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + (self.number or 0))


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside, both signals raise at once, and once more at the end of the block if that was swallowed."""
    stop = Stop()

    def handle(number: int, _frame: Any) -> None:
        stop.number = number
        stop.leave()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
        stop.check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
