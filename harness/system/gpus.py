"""Which GPUs this process may use: free ones, so that several runs share a node without collisions."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from harness.system.locks import locked, try_lock

_POLL_SECONDS = 1.0

_held: list[
    tuple[str, FileLock]
] = []  # GPUs of this process and their locks, which are released when it ends, however it ends


def take_gpus(count: int | None, runs_per_gpu: int, say: Callable[[str], None]) -> list[str]:
    """Reserve `count` GPUs (None: all) for this process and make them its CUDA_VISIBLE_DEVICES; wait for free ones.

    They are kept until the process ends or asks for another number, because a process cannot move once CUDA has
    started. Without GPUs nothing happens.

    Args:
        runs_per_gpu: processes that may share one.
        say: called with a message when it has to wait.

    Raises:
        ValueError: fewer GPUs are visible than asked for.
    """
    visible = visible_gpus() if not _held else [gpu for gpu, _ in _held]
    wanted = len(visible) if count is None else count
    if not visible or len(_held) == wanted:
        return visible
    if _held:
        visible = _release()
    if wanted > len(visible):
        raise ValueError(f"train.devices={wanted}: only {len(visible)} GPUs are visible ({', '.join(visible)})")
    while not _try_to_take(visible, wanted, runs_per_gpu):
        say(f"waiting for {wanted} free of the GPUs {', '.join(visible)}")
        say = _silent
        time.sleep(_POLL_SECONDS)
    os.environ.setdefault(_ALL, ",".join(visible))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu for gpu, _ in _held)
    return [gpu for gpu, _ in _held]


def visible_gpus() -> list[str]:
    """Names as in CUDA_VISIBLE_DEVICES: numbers or UUIDs."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name and name != "-1"]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def reachable_gpus() -> list[str]:
    """All GPUs that this process could take, including those it already holds."""
    listed = os.environ.get(_ALL) if _held else None
    return visible_gpus() if listed is None else listed.split(",")


_ALL = "HARNESS_ALL_GPUS"


def _release() -> list[str]:
    """Release what is held; return all GPUs that were visible at first."""
    while _held:
        _held.pop()[1].release()
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[_ALL]
    return visible_gpus()


def _try_to_take(visible: list[str], wanted: int, runs_per_gpu: int) -> bool:
    """Lock all of them or none, so that two multi-GPU runs cannot wait for each other."""
    folder = _lock_folder()
    with locked(folder / "all"):
        for slot in range(runs_per_gpu):
            for gpu in visible:
                if len(_held) < wanted and gpu not in {name for name, _ in _held}:
                    lock = try_lock(folder / f"{gpu}.{slot}")
                    _held.extend([] if lock is None else [(gpu, lock)])
        if len(_held) == wanted:
            return True
        while _held:
            _held.pop()[1].release()
        return False


def _lock_folder() -> Path:
    """Folder of the locks of this user and SLURM job: another job's GPU 0 is another GPU."""
    job = os.environ.get("SLURM_JOB_ID", "none")
    folder = Path(tempfile.gettempdir()) / f"noise-harness-gpus-{os.getuid()}-{job}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _silent(_message: str) -> None:
    pass
