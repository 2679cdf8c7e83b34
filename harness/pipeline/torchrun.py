"""The stages `train` and `generate` on several processes: start torchrun, copy its metrics to W&B, leave no orphan."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import TrainConfig
from harness.context import Job, Run, StageResult
from harness.pipeline.plan import pending_stages
from harness.pipeline.worker import MEETING, PATIENCE, PROCESSES, RANKS, RESULT
from harness.record import read_json
from harness.system.nodes import check_devices, cores, devices, lost_cores, node_rank, rendezvous
from harness.system.parents import die_with_parent
from harness.system.signals import stoppable

_POLL_SECONDS = 0.2
# How long torchrun waits for the other ranks after one has died before killing them, if it can be told (torch 2.12;
# earlier 30 s), and how long torchrun itself gets. A rank that is asked to save has PATIENCE.
_RANK_SECONDS, _TORCHRUN_SECONDS = 7, 12
# What gloo and NCCL report on the ranks that lost another one.
_LOST_PEER = re.compile(r"connection (closed|reset)|broken pipe|gloo/|NCCL|remote process", re.IGNORECASE)


class RankFailed(RuntimeError):
    """One of several processes ended in an error, or was killed."""


@dataclass(frozen=True)
class Stage:
    """A stage on several processes.

    Attributes:
        name: train or generate.
        devices: processes on this node.
        nodes: number of nodes taking part.
    """

    name: str
    devices: int
    nodes: int = 1

    @classmethod
    def train(cls, settings: TrainConfig) -> Stage:
        """The stage train, on all nodes."""
        return cls("train", devices(settings), settings.nodes)

    def run(self, run: Run) -> StageResult:
        """Do the stage on all devices of this node, together with other nodes if there are any.

        Raises:
            RankFailed: a rank failed; the message is that of the first, its traceback is in the log.
        """
        run.release_model()  # the ranks need the memory
        run.folder.log(f"{self.name}: {self.devices} ranks on this node, {threads_of_a_rank(self)} threads each")
        if lost := lost_cores():
            run.folder.log(f"warning: {lost}")
        with _torchrun(run.job, self) as training:
            status = _follow(training.torchrun, run)
            started = bool(training.ranks())
        result = run.folder / RANKS / RESULT
        if status or not result.exists():
            _raise_first(run, self.name, status, started)
        done = StageResult(**read_json(result))
        run.folder.remove_tree(RANKS)
        return done


@dataclass(frozen=True)
class _Ranks:
    """torchrun, and the folder in which the ranks that it started have left their process ids."""

    torchrun: subprocess.Popen[bytes]
    processes: Path

    def ranks(self) -> list[int]:
        return [int(path.name) for path in self.processes.iterdir()]


def assist(job: Job) -> dict[str, Any]:
    """The part of a non-leading node in a run: its ranks of the training; it writes nothing.

    Raises:
        RankFailed: the training failed on any node; the leading one's log says why.
    """
    if "train" not in pending_stages(job):
        return {}
    with stoppable(), _torchrun(job, Stage.train(job.config.train)) as training:
        if status := training.torchrun.wait():
            log = job.folder / "log.txt"
            raise RankFailed(f"node {node_rank()}: torchrun ended with {status}; see {log}")
    return {}


def torchrun_options(stage: Stage, meeting: Path, run_id: str) -> list[str]:
    """Number of processes and their rendezvous: a file on one node, so that nothing listens, else host and port."""
    here = str(stage.devices)
    end = ["--max-restarts", "0"]
    if "--shutdown-timeout" in known_options():
        end = ["--shutdown-timeout", str(_RANK_SECONDS), *end]
    if stage.nodes == 1:
        file = str(meeting / "torchrun")
        meet = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-endpoint", file]
        return ["--nnodes", "1", "--nproc-per-node", here, "--rdzv-id", run_id, *meet, *end]
    host, port = rendezvous()
    meet = ["--node-rank", str(node_rank()), "--master-addr", host, "--master-port", str(port)]
    wait = ["--rdzv-conf", f"timeout={int(PATIENCE.total_seconds())}"]  # for nodes that start later
    return ["--nnodes", str(stage.nodes), "--nproc-per-node", here, *meet, *wait, *end]


@cache
def known_options() -> frozenset[str]:
    """Options of the torchrun that is installed."""
    from torch.distributed.run import get_args_parser

    return frozenset(option for action in get_args_parser()._actions for option in action.option_strings)


@contextmanager
def _torchrun(job: Job, stage: Stage) -> Iterator[_Ranks]:
    """torchrun in its own session, ended with this block and, by the kernel, with this process."""
    folder = job.folder
    if stage.name == "train":
        check_devices([job.config.train])
    path = folder.path.resolve()
    with _predecessor_gone(path) as lock, tempfile.TemporaryDirectory(prefix="noise-harness-") as processes:
        meeting = path / RANKS / f"meeting-{os.getpid()}"
        if node_rank() == 0:
            folder.remove_tree(RANKS)
            meeting.mkdir(parents=True, exist_ok=True)
        options = torchrun_options(stage, meeting, path.name)
        worker = ["-m", "harness.pipeline.worker", stage.name, str(path), job.fingerprints[stage.name]]
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, *worker],
            env=_environment(stage, meeting) | {PROCESSES: processes},
            start_new_session=True,
            pass_fds=[lock],
            preexec_fn=_before_torchrun,
        )
        training = _Ranks(torchrun, Path(processes))
        try:
            yield training
        finally:
            _end(training)


def _before_torchrun() -> None:
    """SLURM's warnings (USR1, USR2) are for this process: torchrun and its ranks would die of them."""
    die_with_parent(signal.SIGTERM)
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)


@contextmanager
def _predecessor_gone(path: Path) -> Iterator[int]:
    """Wait for the torchrun of a killed command, whose ranks may still be saving; return the lock's file descriptor.

    torchrun inherits the lock and outlives its ranks, so the lock is free when all of them are gone. The folder is
    created here if node 0 has not done so yet.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / f".{RANKS}-{node_rank()}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _end(training: _Ranks) -> None:
    """Tell the ranks to save and exit, and wait for them; a second signal to this process ends the wait.

    A rank that hangs in a collective operation is ended by that operation's time-out, PATIENCE.
    """
    torchrun = training.torchrun
    try:
        if torchrun.poll() is None:
            for rank in training.ranks():
                with suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGTERM)
            if training.ranks():
                torchrun.wait(PATIENCE.total_seconds())
    except subprocess.TimeoutExpired:
        pass
    finally:
        _end_torchrun(torchrun)


def _end_torchrun(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_TORCHRUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its ranks follow it: die_with_parent
        process.wait()


def _environment(stage: Stage, meeting: Path) -> dict[str, str]:
    """The environment of the ranks: without secrets they do not need, and on one node the loopback interface."""
    secret = {"WANDB_API_KEY", "OPENAI_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in secret}
    if stage.nodes == 1:
        environment |= {MEETING: str(meeting / "ranks"), "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    environment.setdefault("OMP_NUM_THREADS", str(threads_of_a_rank(stage)))
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def threads_of_a_rank(stage: Stage) -> int:
    """This process's cores divided by the ranks: loading and optimisers of offloaded shards run on them."""
    return max(1, cores() // stage.devices)


def _follow(process: subprocess.Popen[bytes], run: Run) -> int:
    """Copy logged steps to the tracker until torchrun ends; return its exit status."""
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


def _raise_first(run: Run, stage: str, status: int, started: bool) -> None:
    """Report the rank that failed first, not those that lost it; if all only lost one, that one was killed."""
    reports = sorted((run.folder / RANKS).glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    errors: list[dict[str, Any]] = [read_json(path) | {"rank": path.stem.removeprefix("error-")} for path in reports]
    for error in errors:
        run.folder.log(f"rank {error['rank']} failed\n{error['traceback']}")
    causes = [error for error in errors if not _LOST_PEER.search(error["message"])]
    if causes:
        raise RankFailed(f"rank {causes[0]['rank']}: {causes[0]['type']}: {causes[0]['message']}")
    if started:
        raise RankFailed(f"a process of the stage train was killed (torchrun: {status}); out of memory?")
    raise RankFailed(
        f"torchrun ended with status {status} before a process of the stage {stage} started; "
        "see its message on standard error"
    )
