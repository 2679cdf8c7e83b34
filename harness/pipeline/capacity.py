"""How many runs of a sweep fit side by side on this machine, and on how many threads each computes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config, ModelConfig
from harness.config.paths import resolve_path

# A model of fewer bytes gains next to nothing from a second thread: its matrix products are too small to share.
SMALL_BYTES = 64 * 2**20
# What a run of such a model holds at its peak, with its libraries.
RUN_BYTES = 1.5 * 2**30
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Capacity:
    """Runs at a time, and threads of each (None: all that torch takes by itself)."""

    runs: int = 1
    threads: int | None = None

    def describe(self) -> str:
        """One line for the plan."""
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''} each"
        return f"{self.runs} runs at a time{threads}"


def capacity_for(configs: Sequence[Config]) -> Capacity:
    """Cores and memory decide for small models on a CPU; larger ones and those on a GPU run one after another.

    `harness.workers` sets the number of runs. The threads of a small model are always one (unless OMP_NUM_THREADS says
    otherwise), in a sweep and alone: sums over other threads differ in their last bits.
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
    """Threads of each of these runs: 1 where all their models are small, else what torch takes (None)."""
    if any(config.train.several for config in configs):
        return None
    if not all(is_small(config.model) for config in configs):
        return None
    return int(os.environ.get(THREADS, "1"))


@contextmanager
def computing_threads(config: Config) -> Iterator[None]:
    """Inside, torch computes on the threads that this run has alone and in a sweep alike: it has the same bits."""
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
    """Whether the weights are known here and take less than `SMALL_BYTES`."""
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
    except ValueError:  # the base of a run that needs it no more
        return None
    files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes() -> float:
    """Main memory that is free or can be freed; where the system does not say, enough for every core."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return float("inf")
    line = next(line for line in table.read_text(encoding="ascii").splitlines() if line.startswith("MemAvailable"))
    return 1024.0 * int(line.split()[1])


def has_gpu() -> bool:
    """Whether a GPU is visible, without importing torch for the answer alone."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return listed not in ("", "-1")
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    return Path("/dev/nvidiactl").exists()
