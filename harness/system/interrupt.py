"""SIGTERM while training (a scheduler's preemption): finish the step, save, then leave."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch


class Termination:
    """Whether SIGTERM has arrived."""

    requested = False

    def agreed(self, accelerator: Any) -> bool:
        """Whether any rank has been asked to leave, so that all of them save at the same step."""
        if accelerator.num_processes == 1:
            return self.requested
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
