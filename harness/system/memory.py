"""The memory of this process: the peak during a part of a run, and freed memory that is kept for reuse."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak from its creation on: of the GPU's allocator or, on a CPU, of the resident set.

    Linux lets a process reset its own peak (5 into /proc/self/clear_refs), so that a run in the middle of a sweep does
    not inherit the peak of an earlier one. On other systems there is no number.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            try:
                _CLEAR.write_text("5")
            except OSError:
                self._known = False

    def row(self) -> dict[str, float]:
        """train/peak_memory_gb, in units of 1e9 bytes; empty if not known."""
        if not self._known:
            return {}
        if self._device.type == "cuda":
            size = torch.cuda.max_memory_allocated(self._device)
        else:
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            size = 1024 * int(line.split()[1])
        return {"train/peak_memory_gb": size / 1e9}


# mallopt(3): larger allocations get their own mapping; more than this much free memory at the top is returned.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_NEVER = 2**31 - 1
# Where glibc's dynamic threshold ends up in a process that allocates a lot.
_USUAL = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Inside the block, glibc keeps freed memory; at the end it is returned to the system. No effect without glibc.

    An optimiser step frees gigabytes of activations and asks for them again. If it is returned in between, every page
    comes again from the kernel, filled with zeros: a fifth of the time on the machine in docs/performance.md.
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
