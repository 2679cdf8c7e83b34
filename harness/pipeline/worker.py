"""One of several processes of a stage: `torchrun -m harness.pipeline.worker STAGE RUN_FOLDER FINGERPRINT`.

pipeline/torchrun.py starts it and passes the stage's fingerprint. It uses neither Hydra nor W&B: the settings come
from the run folder's config.yaml, the first process writes, and the launching process copies what it wrote.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from harness.config import Config, parse
from harness.context import Job, Run
from harness.probe.observers import observers
from harness.record import RunFolder, write_json
from harness.record.secrets import redact
from harness.record.tracking import Tracker
from harness.system.nodes import await_file
from harness.system.parents import die_with_parent

# In the run folder, while ranks are at work: where they meet, what they report. Whatever ended them, the next start
# removes it.
RANKS = "ranks"
RESULT = "result.json"
MEETING = "HARNESS_MEETING"  # environment: the file through which the ranks of one node meet
PROCESSES = "HARNESS_PROCESSES"  # environment: the folder in which the ranks of one node leave their process ids
# Time-out of one collective operation: the first waits while other processes still load the model, a late one while
# they write their part of a checkpoint.
PATIENCE = timedelta(minutes=30)


class ReadOnlyFolder(RunFolder):
    """The run folder for all processes but the first: they write nothing."""

    def log(self, message: str) -> None:
        pass

    def append_metrics(self, row: dict[str, float | int]) -> None:
        pass

    def truncate_metrics(self, step: int) -> None:
        pass

    def remove_tree(self, name: str) -> None:
        pass


def main(stage: str, path: Path, fingerprint: str) -> None:
    """Do a stage as one rank of many; leave ranks/result.json, or ranks/error-RANK.json and exit status 1."""
    die_with_parent(signal.SIGKILL)
    rank = int(os.environ["RANK"])
    Path(os.environ[PROCESSES], str(os.getpid())).touch()
    try:
        settings = path / "config.yaml"
        await_file(settings)
        config = parse(yaml.safe_load(settings.read_text(encoding="utf-8")))
        result = _work(stage, config, path, fingerprint, rank)
        if rank == 0:
            write_json(path / RANKS / RESULT, asdict(result))
    except Exception as error:
        told = {"message": redact(str(error)), "traceback": redact(traceback.format_exc())}
        reason = {"type": type(error).__name__, **told}
        write_json(path / RANKS / f"error-{rank}.json", reason)
        raise SystemExit(1) from error


def _work(stage: str, config: Config, path: Path, fingerprint: str, rank: int) -> Any:
    import torch

    work = importlib.import_module(f"harness.{stage}.stage")
    _join(torch.cuda.is_available())
    folder = RunFolder(path) if rank == 0 else ReadOnlyFolder(path)
    untracked = config.model_copy(update={"tracking": config.tracking.model_copy(update={"mode": "disabled"})})
    tracker = Tracker(untracked, path.name, folder)
    job = Job(config, path.name, folder, {stage: fingerprint}, [stage])
    result = work.run(Run(job, tracker, show_progress=rank == 0, observers=observers(config)))
    # Not after an error, when it would wait for the others: the end of this process interrupts them.
    torch.distributed.destroy_process_group()
    return result


def _join(cuda: bool) -> None:
    """Join the other ranks: through a file on one machine, so that nothing listens, else as torchrun says."""
    import torch
    from torch import distributed

    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    ranks, file = int(os.environ["WORLD_SIZE"]), os.environ.get(MEETING)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        rank=int(os.environ["RANK"]),
        world_size=ranks,
        timeout=PATIENCE,
        store=distributed.FileStore(file, ranks) if file else None,  # type: ignore[attr-defined]
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
