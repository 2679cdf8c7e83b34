"""How many runs of a sweep fit side by side on this machine, and on how many threads each computes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config, ModelConfig
from harness.config.paths import resolve_path

# A model of fewer bytes gains almost nothing from a second thread: its matrix products are too small to split.
SMALL_BYTES = 64 * 2**20
# Peak memory of a run of such a model, libraries included.
RUN_BYTES = 1.5 * 2**30
THREADS = "OMP_NUM_THREADS"
# One of them is there where torch may have a GPU: NVIDIA, AMD, WSL, Jetson.
_GPU_DEVICES = ("nvidiactl", "kfd", "dxg", "nvhost-ctrl")


@dataclass(frozen=True)
class Capacity:
    """Runs at a time, and threads of each (None: torch's own choice)."""

    runs: int = 1
    threads: int | None = None

    def describe(self) -> str:
        """One line for the plan."""
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''} each"
        return f"{self.runs} runs at a time{threads}"


def capacity_for(configs: Sequence[Config]) -> Capacity:
    """For small models on a CPU, cores and memory decide; larger models and those on a GPU run one after another.

    `harness.workers` sets the number of runs. A small model always gets one thread (unless OMP_NUM_THREADS says
    otherwise), in a sweep and alone: with another number of threads, sums differ in their last bits.
    """
    wanted = configs[0].harness.workers
    threads = threads_of(configs)
    if wanted != "auto":
        return Capacity(min(wanted, len(configs)), threads)
    if threads is None or has_gpu():
        return Capacity(1, threads)
    by_cores = max(1, cores() // threads)
    by_memory = max(1, int(free_bytes() // RUN_BYTES))
    return Capacity(min(len(configs), by_cores, by_memory), threads)


def threads_of(configs: Sequence[Config]) -> int | None:
    """Threads of each run: 1 if all models are small, else torch's own choice (None)."""
    if any(config.train.several for config in configs):
        return None
    if not all(is_small(config.model) for config in configs):
        return None
    return int(os.environ.get(THREADS, "1"))


@contextmanager
def computing_threads(config: Config) -> Iterator[None]:
    """Inside, torch uses the same number of threads alone as in a sweep, so that a run has the same bits."""
    threads = threads_of([config])
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_small(model: ModelConfig) -> bool:
    """Whether the size of the weights is known and below `SMALL_BYTES`."""
    size = weight_bytes(model)
    return size is not None and size < SMALL_BYTES


def weight_bytes(model: ModelConfig) -> int | None:
    """Bytes of the weights, from sizes and files alone; None for a model that is not on this machine."""
    tiny = model.architecture
    if tiny is not None:
        layer = tiny.hidden_size * (4 * tiny.hidden_size + 3 * tiny.intermediate_size)
        return 4 * (tiny.layers * layer + 2 * 1024 * tiny.hidden_size)
    if model.path is None:
        return None
    try:
        path = resolve_path(model.path)
    except ValueError:  # the base of a run that no longer needs it
        return None
    files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes() -> float:
    """Main memory that is free or can be freed; if the system does not say, enough for every core."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return float("inf")
    line = next(line for line in table.read_text(encoding="ascii").splitlines() if line.startswith("MemAvailable"))
    return 1024.0 * int(line.split()[1])


def has_gpu() -> bool:
    """Whether a GPU is visible and torch can use it; torch is imported only where there may be one."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return listed not in ("", "-1")
    if not any(Path("/dev", name).exists() for name in _GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()
