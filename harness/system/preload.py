"""What the fork server imports before it serves (harness/system/forkserver.py): to import this module is to do it."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module

from harness.system.forkserver import PRELOAD
from harness.system.parents import die_with_parent


def _preload(path: list[str], modules: list[str]) -> None:
    """Import for the workers, out of reach of the terminal, and only as long as the command lives."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    die_with_parent(signal.SIGTERM)  # until it serves, and sees the end of the command by itself
    sys.path[:] = path
    for name in modules:
        with suppress(Exception):  # the worker that needs it meets the same, and reports it
            import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a worker would write to, and so copy, every page of what was imported
    die_with_parent(None)


if (_wanted := os.environ.pop(PRELOAD, None)) is not None:
    _preload(**json.loads(_wanted))
