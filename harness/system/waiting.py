"""Explains a long silence: says what a command is doing once that has taken five seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 5.0


@contextmanager
def waiting(what: str, show: bool = True, seconds: float = SECONDS) -> Iterator[None]:
    """Print "what ..." on stderr if the block is still running after `seconds`.

    Args:
        what: in a few words, with the run if there is one: "[2/6] symnoise-a5-s0: loading the model".
        show: False on all ranks but the first.
        seconds: how long a silence needs no explanation.
    """
    timer = threading.Timer(seconds, lambda: print(f"{what} ...", file=sys.stderr, flush=True))
    timer.daemon = True
    if show:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
