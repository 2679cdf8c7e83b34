"""The end of a parent process, however it ends: by itself, by a signal that it handles, by SIGKILL."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(how: signal.Signals | None) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux; nothing elsewhere); None: no longer."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, how or 0)


def stop_with_command() -> None:
    """In a process of multiprocessing: SIGTERM when the process that asked for it ends.

    The kernel's parent would be the wrong one: of a process from the fork server it is that server.
    """
    command = multiprocessing.parent_process()
    assert command is not None
    threading.Thread(target=_stop_after, args=(command.sentinel,), daemon=True).start()


def _stop_after(sentinel: int) -> None:
    wait([sentinel])
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it if it waits for something
    else:
        os.kill(os.getpid(), signal.SIGTERM)
