"""The most memory that a part of a run held."""

from __future__ import annotations

from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Starts to look at the peak when it is made: of the GPU's allocator, on a CPU of the process's resident set.

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
        """train/peak_memory_gb, in units of 1e9 bytes; empty where it is not known."""
        if not self._known:
            return {}
        if self._device.type == "cuda":
            size = torch.cuda.max_memory_allocated(self._device)
        else:
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            size = 1024 * int(line.split()[1])
        return {"train/peak_memory_gb": size / 1e9}
