"""Whether this machine can do the runs that start on it, and what it is slow at."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harness.context import Job
from harness.pipeline.capacity import has_gpu, weight_bytes
from harness.system.nodes import check_devices
from harness.train.checks import slow_precision


def check_this_machine(jobs: Sequence[Job]) -> list[str]:
    """Check devices and memory for the jobs that will run here.

    Returns:
        A warning of a precision that this processor is slow in.

    Raises:
        ValueError: fewer devices than asked for, or weights that no memory of this machine can hold.
    """
    check_devices([job.config.train for job in jobs])
    _check_memory(jobs)
    return slow_precision([job.config.train for job in jobs if "train" in job.pending])


def _check_memory(jobs: Sequence[Job]) -> None:
    if has_gpu():
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for model in dict.fromkeys(job.config.model for job in jobs if {"train", "generate"} & {*job.pending}):
        needed = weight_bytes(model)
        if needed is not None and needed > there:
            raise ValueError(
                f"model={model.name}: the weights alone take {needed / 1e9:,.0f} GB, and this machine has "
                f"{there / 1e9:.0f} GB of memory and no GPU"
            )
