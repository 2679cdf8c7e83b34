"""Workers that are forked, with their imports done, from a server of multiprocessing; elsewhere than on Linux spawned.

The server imports while the command still reads its data: each worker then starts in milliseconds, and all share the
memory of what was imported. It ends with the command and its workers, whatever ends those.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

# Environment of the server, for harness/system/preload.py: {"path": sys.path, "modules": [...]}.
PRELOAD = "HARNESS_PRELOAD"


def start_server(modules: Sequence[str]) -> BaseContext:
    """Start the server, which imports `modules` in the background; return the context from which workers then come.

    Environment variables that libraries read when they are imported must be set before.

    Args:
        modules: what workers need. To import them must start no thread, because a fork copies none.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    os.environ[PRELOAD] = json.dumps({"path": sys.path, "modules": list(modules)})
    multiprocessing.set_forkserver_preload(["harness.system.preload"])
    resource_tracker.ensure_running()  # the server would start it, which unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError:  # its socket cannot be made: TMPDIR is too long for one, or not writable
        return multiprocessing.get_context("spawn")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return multiprocessing.get_context("forkserver")


def leave_server() -> None:
    """In a worker: a session of its own, and Ctrl-C, which the server ignores, as in any process.

    A terminal's Ctrl-C then goes to the command alone, which passes it on once.
    """
    if hasattr(os, "setsid"):
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
