"""How the processes of one training are started and ended: options, threads, slow disks, nodes that come early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from support.commands import ROOT, SMALL
from torch.distributed.run import get_args_parser

from harness.pipeline import torchrun
from harness.pipeline.plan import RunFailed
from harness.pipeline.runner import execute
from harness.system.nodes import await_file, lost_cores

TWO = [*SMALL, "model.architecture.layers=2", "train.devices=2", "train.sharding=fsdp", "stages=[train]"]
# Each file of a rank takes as long to write as on a slow disk: more than torchrun gives a rank that it ends.
SLOW_DISK = """
import os
if "LOCAL_RANK" in os.environ:
    import time, safetensors.torch as files
    write = files.save_file
    files.save_file = lambda *args, **options: (time.sleep(8), write(*args, **options))[1]
"""


def options_of(compose, tmp_path, monkeypatch, *overrides):
    for name, value in {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29511"}.items():
        monkeypatch.setenv(name, value)
    settings = compose(*TWO, *overrides).train
    return get_args_parser().parse_args(
        [*torchrun.torchrun_options(torchrun.Stage.train(settings), tmp_path, "a-run"), "-m", "script"]
    )


def test_torchrun_takes_the_options_of_one_node_and_of_two(compose, tmp_path, monkeypatch):
    """By the parser of the torchrun that is installed."""
    one = options_of(compose, tmp_path, monkeypatch)
    assert (one.nnodes, one.nproc_per_node, one.rdzv_backend, one.max_restarts) == ("1", "2", "c10d", 0)
    two = options_of(compose, tmp_path, monkeypatch, "train.nodes=2")
    assert (two.nnodes, two.node_rank, two.master_addr, two.master_port) == ("2", 1, "10.0.0.1", 29511)
    assert two.rdzv_conf == "timeout=1800"


def test_an_older_torchrun_is_not_given_what_it_does_not_know(compose, tmp_path, monkeypatch):
    """torch 2.11 has no --shutdown-timeout and refuses it with status 2."""
    known = torchrun.known_options()
    given = torchrun.torchrun_options(torchrun.Stage.train(compose(*TWO).train), tmp_path, "a-run")
    assert ("--shutdown-timeout" in given) == ("--shutdown-timeout" in known)
    monkeypatch.setattr(torchrun, "known_options", lambda: known - {"--shutdown-timeout"})
    assert "--shutdown-timeout" not in torchrun.torchrun_options(
        torchrun.Stage.train(compose(*TWO).train), tmp_path, "a-run"
    )


def test_a_refusal_of_torchrun_is_not_called_a_lack_of_memory(compose, monkeypatch, capfd):
    monkeypatch.setattr(torchrun, "torchrun_options", lambda *_: ["--no-such-option", "1"])
    with pytest.raises(
        RunFailed, match="torchrun ended with status 2 before a process of the stage train started"
    ) as told:
        execute(compose(*TWO))
    assert "memory" not in str(told.value)
    assert "--no-such-option" in capfd.readouterr().err


def test_the_cores_are_shared_out_over_the_ranks(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert [torchrun.threads_of_a_rank(torchrun.Stage("train", n)) for n in (2, 8, 100)] == [32, 8, 1]


def test_cores_that_srun_forgot_are_named(monkeypatch):
    """SLURM 22.05 to 23.02 without SRUN_CPUS_PER_TASK: eight ranks on one core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    for asked, said in (("8", True), ("1", False), ("", False)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
        assert bool(lost_cores()) == said
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert "SRUN_CPUS_PER_TASK" in str(lost_cores())


@pytest.fixture
def slow_disk(tmp_path):
    """The environment of a command whose ranks write slowly."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}


def test_sigterm_waits_until_the_ranks_have_saved(tmp_path, slow_disk):
    place = tmp_path / "runs"
    endless = ["train.max_steps=100000", "train.checkpoint_every=0", "noise=symnoise"]
    command = [sys.executable, "-m", "harness", *TWO, *endless, f"output_dir={place}", "tracking=disabled"]
    process = subprocess.Popen(command, cwd=tmp_path, env=slow_disk, stderr=subprocess.PIPE, text=True)
    while not list(place.glob("*/metrics.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM, message
    (folder,) = place.glob("*/log.txt")
    saved = [path.name for path in folder.parent.glob("checkpoints/*")]
    assert len(saved) == 1
    assert saved[0].startswith("step-")
    assert f"step {int(saved[0][5:])}: SIGTERM: saved, leaving" in folder.read_text()


# A launcher as submitit is one: it waits for SLURM's warning, and is told when everything is closed.
LAUNCHER = """
import signal, sys
from pathlib import Path
told = Path(sys.argv[1])
def requeue(number, frame):
    told.write_text(str(int(number)))
signal.signal(signal.SIGUSR2, requeue)
from harness.cli import main
sys.argv = ["harness", *sys.argv[2:]]
main()
"""


# SIGTERM: to the command alone above; to every process of a run without ranks in record/test_tracking_faults.py.
@pytest.mark.parametrize(
    "number",
    [signal.SIGUSR2, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_a_signal_to_every_process_of_a_job_has_two_ranks_save(tmp_path, number):
    """As SLURM sends it: to the command, torchrun and the ranks at once."""
    place, told = tmp_path / "runs", tmp_path / "requeued"
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    endless = ["train.max_steps=100000", "train.checkpoint_every=0", "noise=symnoise"]
    command = [sys.executable, str(tmp_path / "launcher.py"), str(told), *TWO, *endless, f"output_dir={place}"]
    given = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    process = subprocess.Popen(command, cwd=tmp_path, env=given, stderr=subprocess.PIPE, text=True)
    while not list(place.glob("*/metrics.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    job = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len([each for each in job if "harness.pipeline.worker" in each.cmdline()]) >= 3  # torchrun and two ranks
    for each in job:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, message
    (folder,) = place.glob("*/log.txt")
    saved = [path.name for path in folder.parent.glob("checkpoints/*")]
    assert len(saved) == 1, message
    assert saved[0].startswith("step-")
    assert "saved, leaving" in folder.read_text()
    assert not any(each.is_running() for each in job)
    assert told.exists() == (number == signal.SIGUSR2)  # and only then


def test_a_node_that_comes_first_makes_the_folder(tmp_path, monkeypatch):
    """Node 1 waits for node 0 in torchrun's rendezvous, whether or not the run has a folder."""
    monkeypatch.setenv("NODE_RANK", "1")
    with torchrun._predecessor_gone(tmp_path / "runs" / "a-run") as lock:
        assert os.fstat(lock)
    assert [path.name for path in (tmp_path / "runs" / "a-run").iterdir()] == [".ranks-1.lock"]


def test_a_rank_waits_for_what_another_node_writes(tmp_path):
    file = tmp_path / "run" / "config.yaml"
    writer = threading.Timer(0.3, lambda: (file.parent.mkdir(), file.write_text("seed: 1")))
    writer.start()
    assert await_file(file, 60)
    writer.join()
    assert file.read_text() == "seed: 1"
    assert not await_file(tmp_path / "never.yaml", 0.2)
