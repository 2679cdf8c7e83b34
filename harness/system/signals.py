"""SIGTERM (a scheduler's preemption) and Ctrl-C as an exit that unwinds: checkpoints and W&B are closed properly.

The same holds for SLURM's warning before its time limit (USR1 or USR2), if a launcher waits for it: submitit requeues
the job, which makes SLURM kill it. So everything is closed first, and then the launcher is told.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
# A step may take a minute, and people who see nothing happen press again.
_PATIENCE_SECONDS = 2.0
_STOPPING = "\nstopping after this step, with a checkpoint; Ctrl-C again stops at once without"


def _warnings() -> list[signal.Signals]:
    """The warning signals that have a handler."""
    return [number for number in _WARNINGS if callable(signal.getsignal(number))]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with how far the work had got: "interrupted at step 20 of 100"."""


class Stop:
    """The signal that asked this process to stop, if any."""

    number: int | None = None

    def check(self) -> None:
        """Stop if asked to: a library's bare `except` may have swallowed the signal's exception."""
        if self.number is not None:
            self.leave()

    def leave(self) -> NoReturn:
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + (self.number or 0))


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside the block signals raise at once, and again at its end if the exception was swallowed.

    After a warning signal, the previous handler is called at the very end.
    """
    stop = Stop()

    def handle(number: int, _frame: Any) -> None:
        stop.number = number
        stop.leave()

    previous = {number: signal.signal(number, handle) for number in (*_SIGNALS, *_warnings())}
    try:
        yield stop
        stop.check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if stop.number in _WARNINGS and callable(told := previous[signal.Signals(stop.number)]):
            told(stop.number, None)


class Termination:
    """The signal that asked to stop after the step: SIGTERM, Ctrl-C or a warning; 0: none."""

    number = 0

    @property
    def requested(self) -> bool:
        return self.number != 0

    def agreed(self, accelerator: Any) -> bool:
        """Whether any rank has been asked to stop, so that all of them save at the same step."""
        if accelerator.num_processes == 1:
            return self.requested
        import torch

        return bool(accelerator.reduce(torch.tensor(int(self.requested), device=accelerator.device)) > 0)

    @property
    def name(self) -> str:
        """The number of the signal; SIGTERM on a rank that was not asked itself."""
        return signal.Signals(self.number or signal.SIGTERM).name

    def leave(self, reached: str) -> NoReturn:
        """Stop as the signal would outside the block; the pipeline closes the log and W&B on the way.

        Args:
            reached: how far the work has got, for the user at the terminal: "step 20 of 100".
        """
        if self.number == signal.SIGINT:
            raise Interrupted(f"interrupted at {reached}")
        handler = signal.getsignal(self.number) if self.number else None
        if self.number in _WARNINGS and callable(handler):
            handler(self.number, None)
        # On the ranks that were not asked themselves, too: the status of a process that SIGTERM ended.
        sys.exit(128 + signal.SIGTERM)


@contextmanager
def deferred_termination() -> Iterator[Termination]:
    """Inside the block the first SIGTERM, Ctrl-C or warning only sets `number`; a second one acts as usual.

    In a rank of torchrun no SIGTERM ends the wait for the step: the scheduler's SIGKILL does.
    Signals reach only the main thread: in others (a notebook's, say) nothing is deferred.
    """
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return
    previous = {number: signal.getsignal(number) for number in (*_SIGNALS, *_warnings())}
    impatient = threading.Timer(_PATIENCE_SECONDS, print, [_STOPPING], {"file": sys.stderr, "flush": True})
    impatient.daemon = True

    def request(number: int, frame: Any) -> None:
        del frame
        termination.number = number
        # A job's SIGTERM reaches a rank from the scheduler, from torchrun and from the command: none is impatience.
        if not (number == signal.SIGTERM and "LOCAL_RANK" in os.environ):
            signal.signal(number, previous[signal.Signals(number)])
        if number == signal.SIGINT:
            impatient.start()

    for number in previous:
        signal.signal(number, request)
    try:
        yield termination
    finally:
        impatient.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)
