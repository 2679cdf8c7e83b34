"""The stage `train` on several processes: start torchrun, copy its metrics to W&B, read its result, leave no orphan."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config import Config, TrainConfig
from harness.context import Run, StageResult
from harness.pipeline.plan import pending_stages
from harness.pipeline.worker import MEETING, RANKS, RESULT, die_with_parent
from harness.record import RunFolder, read_json
from harness.system.nodes import devices, node_rank, rendezvous

_POLL_SECONDS = 0.2
# What torchrun gives its ranks after SIGTERM before it kills them, and what it is given itself.
_RANK_SECONDS, _TORCHRUN_SECONDS = 7, 12
# What gloo and NCCL say on the ranks that another one has left.
_LOST_PEER = re.compile(r"connection (closed|reset)|broken pipe|gloo/|NCCL|remote process", re.IGNORECASE)


class RankFailed(RuntimeError):
    """A process of the training ended in an error, or was killed."""


def run(run: Run) -> StageResult:
    """Train on all devices of this node, with the other nodes if there are any.

    Raises:
        RankFailed: a rank failed; the message is that of the first, its traceback is in the log.
    """
    with _torchrun(run.config.train, run.folder) as process:
        status = _follow(process, run)
    result = run.folder / RANKS / RESULT
    if status or not result.exists():
        _raise_first(run, status)
    figures = StageResult(**read_json(result))
    run.folder.remove_tree(RANKS)
    return figures


def assist(config: Config, folder: RunFolder) -> dict[str, Any]:
    """What a node beside the leading one does of a run: its ranks of the training; it writes nothing.

    Raises:
        RankFailed: the training failed on any node; the leading one's log says why.
    """
    if "train" not in pending_stages(config, folder):
        return {}
    with _torchrun(config.train, folder) as process:
        if process.wait():
            raise RankFailed(f"node {node_rank()}: torchrun ended with {process.returncode}; see {folder / 'log.txt'}")
    return {}


def torchrun_options(settings: TrainConfig, meeting: Path, run_id: str) -> list[str]:
    """Processes and where they meet: in a folder on one node, so that nothing listens; a host and port for several."""
    here = str(devices(settings))
    end = ["--shutdown-timeout", str(_RANK_SECONDS), "--max-restarts", "0"]
    if settings.nodes == 1:
        file = str(meeting / "torchrun")
        meet = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-endpoint", file]
        return ["--nnodes", "1", "--nproc-per-node", here, "--rdzv-id", run_id, *meet, *end]
    host, port = rendezvous()
    meet = ["--node-rank", str(node_rank()), "--master-addr", host, "--master-port", str(port)]
    return ["--nnodes", str(settings.nodes), "--nproc-per-node", here, *meet, *end]


@contextmanager
def _torchrun(settings: TrainConfig, folder: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun in a session of its own, ended with this block and, by the kernel, with this process."""
    path = folder.path.resolve()
    with _predecessor_gone(path) as lock:
        if node_rank() == 0:
            folder.remove_tree(RANKS)
        meeting = path / RANKS / f"meeting-{os.getpid()}"
        meeting.mkdir(parents=True, exist_ok=True)
        options = torchrun_options(settings, meeting, path.name)
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, "-m", "harness.pipeline.worker", path],
            env=_environment(settings, meeting),
            start_new_session=True,
            pass_fds=[lock],
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )
        try:
            yield process
        finally:
            _end(process)


@contextmanager
def _predecessor_gone(path: Path) -> Iterator[int]:
    """Wait for the torchrun of a command that was killed: its ranks may still be saving. The lock's file descriptor.

    torchrun inherits the lock and outlives its ranks, so it is free when all of them are gone.
    """
    with open(path / f".{RANKS}-{node_rank()}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_TORCHRUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its ranks follow it: die_with_parent
        process.wait()


def _environment(settings: TrainConfig, meeting: Path) -> dict[str, str]:
    """Of the ranks: no secrets they have no use for, and the loopback interface on a single node."""
    secret = {"WANDB_API_KEY", "OPENAI_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in secret}
    if settings.nodes == 1:
        environment |= {MEETING: str(meeting / "ranks"), "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def _follow(process: subprocess.Popen[bytes], run: Run) -> int:
    """Copy logged steps to the tracker until torchrun ends; its exit status."""
    known, size = {row["step"] for row in run.folder.metrics()}, -1
    while True:
        status = process.poll()  # first, so that the last rows are read after the end
        file = run.folder / "metrics.jsonl"
        grown = file.stat().st_size if file.exists() else 0
        for row in run.folder.metrics() if grown != size else ():
            if row["step"] not in known:
                known.add(row["step"])
                run.tracker.log(row)
        if status is not None:
            return status
        size = grown
        time.sleep(_POLL_SECONDS)


def _raise_first(run: Run, status: int) -> None:
    """Report the rank that failed first, not those that miss it; where all only miss one, it was killed."""
    reports = sorted((run.folder / RANKS).glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    errors: list[dict[str, Any]] = [read_json(path) | {"rank": path.stem.removeprefix("error-")} for path in reports]
    for error in errors:
        run.folder.log(f"rank {error['rank']} failed\n{error['traceback']}")
    causes = [error for error in errors if not _LOST_PEER.search(error["message"])]
    if not causes:
        raise RankFailed(f"a process of the training was killed (torchrun: {status}); out of memory?")
    raise RankFailed(f"rank {causes[0]['rank']}: {causes[0]['type']}: {causes[0]['message']}")
