"""How generation is distributed: number of processes, GPUs per model, and the share of each process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from harness.config import Config
from harness.system.gpus import visible_gpus
from harness.system.nodes import cores, devices

T = TypeVar("T")
ROWS_TOGETHER = {"cpu": 32, "cuda": 256}  # rows decoded together unless generate.batch_size is given
# Share of a GPU's memory for weights; the rest is for the cache, activations and fragmentation.
_WEIGHTS_SHARE = 0.75


def processes(config: Config, gpus: int | None = None) -> int:
    """Processes that answer on this machine (of vLLM: GPUs), as generate.devices says.

    auto: as many as in training, limited by the GPUs (or cores), and enough to hold one model.

    Args:
        gpus: number of GPUs; None: those visible to this process.

    Raises:
        ValueError: fewer GPUs than asked for.
    """
    there = len(visible_gpus()) if gpus is None else gpus
    settings = config.generate
    if settings.devices != "auto":
        wanted, key = settings.devices, f"generate.devices={settings.devices}"
    else:
        trained = devices(config.train) if config.train.several else 1
        together = settings.tensor_parallel or 1
        wanted, key = max(min(trained, there or cores()), together), f"generate.tensor_parallel={together}"
    if there and wanted > there:
        raise ValueError(f"{key}: only {there} GPUs are visible")
    return wanted


def tensor_parallel(config: Config, weights_bytes: float, gpu_bytes: Sequence[int], ranks: int) -> int:
    """GPUs that hold one model together.

    Args:
        config: generate.tensor_parallel wins if given.
        weights_bytes: size of the model in the dtype that it answers in.
        gpu_bytes: memory of each GPU; empty on a CPU, where one process holds the model.
        ranks: number of processes (for vLLM: GPUs).

    Raises:
        ValueError: the model does not fit on all of them, or they cannot be divided.
    """
    given = config.generate.tensor_parallel
    if given is not None:
        if ranks % given:
            raise ValueError(f"generate.tensor_parallel={given}: does not divide the {ranks} devices")
        return given
    if not gpu_bytes:
        return 1
    room = _WEIGHTS_SHARE * min(gpu_bytes)
    # Ours cuts a model over all ranks or over none; vLLM has copies of any size.
    sizes = [size for size in range(1, ranks + 1) if ranks % size == 0]
    allowed = sizes if config.generate.backend == "vllm" else sorted({1, ranks})
    fitting = [size for size in allowed if weights_bytes / size <= room]
    if not fitting:
        raise ValueError(
            f"generate: {weights_bytes / 1e9:.0f} GB of weights do not fit on {ranks} GPUs of "
            f"{min(gpu_bytes) / 1e9:.0f} GB; answer on more of them (generate.devices), "
            "or in fewer bits (generate.dtype)"
        )
    return fitting[0]


def rank_and_size() -> tuple[int, int]:
    """Rank and number of the processes started by torchrun; (0, 1) without it."""
    if "LOCAL_RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def share(items: Sequence[T], costs: Sequence[int], rank: int, ranks: int) -> list[tuple[int, T]]:
    """This rank's items with their indices, dealt longest first so that all ranks have equal work."""
    order = sorted(range(len(items)), key=lambda index: (-costs[index], index))
    return [(index, items[index]) for index in sorted(order[rank::ranks])]


def gather(found: dict[int, Any]) -> dict[int, Any]:
    """The items of all ranks, gathered on every rank."""
    import torch

    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return found
    parts: list[dict[int, Any]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, found)
    return {index: each for part in parts for index, each in part.items()}
