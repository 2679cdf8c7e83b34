"""Freed memory is kept for the next step of a training instead of being handed back to the system."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3): allocations from this size on are mapped for themselves; more than this free at the top is handed back.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_NEVER = 2**31 - 1
# Where glibc's own adjustment ends up in a process that allocates much.
_USUAL = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def kept_memory() -> Iterator[None]:
    """While inside, glibc keeps what is freed; at the end it goes back to the system. Elsewhere nothing happens.

    An optimiser step frees gigabytes of activations and asks for them again. Handed back in between, every page comes
    anew from the kernel, filled with zeros: a fifth of the time on the machine in docs/performance.md.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for parameter in _USUAL:
        libc.mallopt(parameter, _NEVER)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
