"""SIGTERM (a scheduler's preemption) and Ctrl-C as an exit that unwinds: checkpoints and W&B are closed in order."""

from __future__ import annotations

import signal
import sys
import threading
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


class Termination:
    """Whether SIGTERM has arrived."""

    requested = False

    def agreed(self, accelerator: Any) -> bool:
        """Whether any rank has been asked to leave, so that all of them save at the same step."""
        if accelerator.num_processes == 1:
            return self.requested
        import torch

        return bool(accelerator.reduce(torch.tensor(int(self.requested), device=accelerator.device)) > 0)

    def leave(self) -> NoReturn:
        """Exit with the status of a process that SIGTERM ended; the pipeline closes the log and W&B on the way."""
        sys.exit(128 + signal.SIGTERM)


@contextmanager
def deferred_termination() -> Iterator[Termination]:
    """Inside, the first SIGTERM only sets `requested`; a second one ends the process as outside.

    Signals reach the main thread alone: elsewhere (a test, a notebook's thread) nothing is deferred.
    """
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return
    previous = signal.getsignal(signal.SIGTERM)

    def request(number: int, frame: Any) -> None:
        del number, frame
        termination.requested = True
        signal.signal(signal.SIGTERM, previous)

    signal.signal(signal.SIGTERM, request)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, previous)
