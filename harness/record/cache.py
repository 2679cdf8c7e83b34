"""The cache of results shared by all runs on this machine; deleting the folder costs only time.

If the cache cannot be written (full disk, no permission), one line says so and everything goes on without it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from harness.system.locks import locked, try_lock


def cache_dir() -> Path:
    """$NOISE_HARNESS_CACHE, else noise-harness in the user's cache folder."""
    base = os.environ.get("NOISE_HARNESS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "noise-harness"
    )
    return Path(base).expanduser()


@contextmanager
def one_maker(entry: Path) -> Iterator[None]:
    """Lock an entry: one process makes it, the others wait and find it. Leftovers of killed makers are removed."""
    lock = locked(_lock_of(entry.parent, _key(entry)))
    held = keep(lock.__enter__)
    try:
        if held:
            _remove_stale(entry)
        yield
    finally:
        if held:
            lock.__exit__(None, None, None)


def unfinished(entry: Path) -> Path:
    """Where the maker writes an entry before it is complete."""
    return entry.with_name(f"{_key(entry)}.{os.getpid()}.tmp")


def keep(write: Callable[[], object]) -> bool:
    """Write into the cache, or say in one line that it is impossible; return whether it was written."""
    try:
        write()
    except OSError as error:
        _say_once(
            f"warning: the cache {cache_dir()} cannot be written ({error.strerror or error}); going on without it"
        )
        return False
    return True


def _key(entry: Path) -> str:
    return entry.name.removesuffix(".safetensors")


def _lock_of(folder: Path, key: str) -> Path:
    return folder / f"{key}.lock"


def _remove_stale(ours: Path) -> None:
    """Remove partial entries whose makers are gone: nobody holds their lock."""
    for path in (*ours.parent.glob("*.tmp"), *ours.parent.glob(".*.tmp")):  # KEY.PID.tmp
        key = path.name.lstrip(".").rsplit(".", 2)[0]
        lock = None if key == _key(ours) else try_lock(_lock_of(ours.parent, key))
        if lock is not None or key == _key(ours):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
