"""Whether this machine can do the runs that start on it, and what it is slow at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from harness.config import ModelConfig
from harness.context import Job
from harness.pipeline.capacity import has_gpu, weight_bytes
from harness.system.nodes import check_devices
from harness.train.checks import slow_precision


def check_this_machine(jobs: Sequence[Job]) -> list[str]:
    """Check devices and memory for the jobs that will run here.

    Returns:
        Warnings: of models that this machine cannot hold beside others that it can (their runs will fail alone), and of
        a precision that this processor is slow in.

    Raises:
        ValueError: fewer devices than asked for, or weights that no memory of this machine can hold in every job.
    """
    check_devices([job.config.train for job in jobs])
    computing = [job for job in jobs if {"train", "generate"} & {*job.pending}]
    too_large = {} if has_gpu() else _too_large(job.config.model for job in computing)
    if too_large and all(job.config.model in too_large for job in computing):
        raise ValueError(next(iter(too_large.values())))
    slow = slow_precision([job.config.train for job in jobs if "train" in job.pending])
    return [*(f"warning: {said}" for said in too_large.values()), *slow]


def _too_large(models: Iterable[ModelConfig]) -> dict[ModelConfig, str]:
    """Models whose weights exceed the memory of this machine, and what to say of each."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    sizes = {model: _least_bytes(model) for model in dict.fromkeys(models)}
    return {
        model: f"model={model.name}: the weights alone take {needed / 1e9:,.0f} GB, and this machine has "
        f"{there / 1e9:.0f} GB of memory and no GPU"
        for model, needed in sizes.items()
        if needed > there
    }


def _least_bytes(model: ModelConfig) -> int:
    """What the weights take at the least: files of 32 bits may be read as 16. 0: not known."""
    size = weight_bytes(model) or 0
    return size if model.dtype == "float32" else size // 2
