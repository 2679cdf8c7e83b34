"""Fetches remote parts of runs to this machine, several at a time, showing progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread

from analysis.sources.record import Details, RecordPart

_AT_ONCE = 8
# If nothing arrives for this long, nothing will: W&B's client itself waits for ever.
_PATIENCE_S = 120.0
# A shorter wait needs no explanation.
_SILENT_S = 2.0


class SourceSilent(ValueError):
    """A server that no longer answers: what is left to ask of it would wait as long."""


def fetch(details: Sequence[Details], part: RecordPart) -> None:
    """Fetch a part of every run, so that reading it does not wait.

    Raises:
        ValueError: one of them cannot be fetched.
    """
    absent = [each for each in details if not each.is_here(part)]
    todo: SimpleQueue[Details] = SimpleQueue()
    done: SimpleQueue[Future[None]] = SimpleQueue()
    for each in absent:
        todo.put(each)
    for _ in range(min(_AT_ONCE, len(absent))):
        # Daemon threads, unlike an executor's: one that waits for a server must not keep the program alive.
        Thread(target=_work, args=(todo, done, part), daemon=True).start()
    try:
        _wait(done, part, len(absent))
    finally:
        while not todo.empty():
            todo.get()


def _work(todo: SimpleQueue[Details], done: SimpleQueue[Future[None]], part: RecordPart) -> None:
    while not todo.empty():
        try:
            details = todo.get_nowait()
        except Empty:
            return
        future: Future[None] = Future()
        try:
            details.fetch(part)
            future.set_result(None)
        except (ValueError, OSError) as error:
            future.set_exception(error)
        finally:
            future.cancel()  # has no effect on one with a result
            done.put(future)


def _wait(done: SimpleQueue[Future[None]], part: RecordPart, total: int) -> None:
    started, is_shown = time.monotonic(), False
    for number in range(1, total + 1):
        try:
            done.get(timeout=_PATIENCE_S).result()
        except Empty:
            raise SourceSilent(f"{part} of {total} runs: W&B sent nothing for {_PATIENCE_S:.0f} s") from None
        is_shown = sys.stderr.isatty() and (is_shown or time.monotonic() - started > _SILENT_S)
        if is_shown:
            end = "\n" if number == total else ""
            print(f"\rfetching {part} of {total} runs: {number}", end=end, file=sys.stderr, flush=True)
