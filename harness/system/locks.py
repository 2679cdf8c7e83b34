"""File locks between processes: the kernel releases them however a process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# filelock imports asyncio, which whoever only looks at runs can do without.
if TYPE_CHECKING:
    from filelock import FileLock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for the block, waiting for its current holder; the file stays."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def try_lock(path: Path) -> FileLock | None:
    """Take a lock file until `release()` or the end of the process; None if another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
