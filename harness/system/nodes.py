"""This machine's devices and its place among the nodes: from SLURM, or NODE_RANK, MASTER_ADDR and MASTER_PORT."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from harness.config import TrainConfig

# How long NFS may go on saying that a file of another node is not there.
_NFS_SECONDS = 90


def node_rank() -> int:
    """0 for the leading node (it writes, generates and judges), 1, 2, ... for nodes that only help to train."""
    return int(os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID", "0")))


def devices(settings: TrainConfig) -> int:
    """Processes of the training on this node; "auto" counts its GPUs."""
    if settings.devices != "auto":
        return settings.devices
    import torch

    return max(1, torch.cuda.device_count())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def lost_cores() -> str | None:
    """A warning if SLURM gave this task more cores than its process may use, else None."""
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if not asked.isdecimal() or int(asked) <= cores():
        return None
    return (
        f"SLURM gave the task {asked} cores and this process may use {cores()}: srun of SLURM 22.05 to 23.02 forgets "
        "--cpus-per-task; put 'export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK' first in hydra.launcher.setup"
    )


def check_devices(all_settings: Iterable[TrainConfig]) -> None:
    """Check that this machine has what train.devices asks for: a GPU per process or, without GPUs, a core.

    Raises:
        ValueError: it has fewer.
    """
    for wanted in {each.devices for each in all_settings if each.devices not in ("auto", 1)}:
        import torch

        gpus = torch.cuda.device_count()
        if int(wanted) > (gpus or cores()):
            there = f"{gpus} GPUs" if gpus else f"no GPU and {cores()} cores"
            raise ValueError(f"train.devices={wanted}: this machine has {there}; give at most {gpus or cores()}")


def rendezvous() -> tuple[str, int]:
    """Host and port at which the nodes meet.

    Raises:
        ValueError: neither MASTER_ADDR nor a SLURM job says where.
    """
    host = os.environ.get("MASTER_ADDR") or _first_host()
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    return host, int(os.environ.get("MASTER_PORT", 20_000 + job % 20_000))


def _first_host() -> str:
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise ValueError("train.nodes: set NODE_RANK, MASTER_ADDR and MASTER_PORT on every node, or run under SLURM")
    listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return listed.stdout.split()[0]


def await_file(path: Path, seconds: float = _NFS_SECONDS) -> bool:
    """Wait for a file that another node has written and this one does not see yet; False where it does not come.

    NFS may remember for a minute that a file or its folder was missing.
    """
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        for folder in (path.parent.parent, path.parent):
            if folder.is_dir():
                os.scandir(folder).close()  # asks the server again
        time.sleep(0.1)
    return True
