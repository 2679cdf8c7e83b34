"""Sweeps through each launcher for real; SLURM by commands on PATH that stand in for a cluster's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import SMALL, environment, judge_down_at_first, sweep

from harness.system.gpus import take_gpus

SLURM = Path(__file__).parents[1] / "fake_slurm"
GRID = ["noise=symnoise", "alpha=1,5", "train.max_steps=2"]


def done(folder: Path) -> list[Path]:
    return [path.parent for path in (folder / "runs").glob("tiny-*/done")]


def slurm(folder: Path, *arguments: str, hold: bool = False) -> subprocess.Popen[str]:
    """The command with a cluster's commands first on PATH."""
    held = {"HOLD": "1"} if hold else {}
    command = [sys.executable, "-m", "harness", "-m", *SMALL, *arguments, "hydra/launcher=slurm"]
    given = environment(PATH=f"{SLURM}:{os.environ['PATH']}", FAKE_SLURM=str(folder), **held)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=given,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.mark.parametrize("launcher", ["parallel", pytest.param("slurm_local", marks=pytest.mark.slow)])
def test_a_sweep_through_a_launcher(tmp_path, launcher):
    pytest.importorskip({"parallel": "hydra_plugins.hydra_joblib_launcher"}.get(launcher, "submitit"))
    result = sweep(tmp_path, *GRID, f"hydra/launcher={launcher}")
    assert result.returncode == 0, result.stderr
    assert len(done(tmp_path)) == 2
    logs = list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
    assert len(logs) == 2
    assert sweep(tmp_path, *GRID, f"hydra/launcher={launcher}").stderr.startswith("2 jobs, 2 distinct, 2 done")


@pytest.mark.slow
def test_a_failing_run_does_not_stop_those_beside_it(tmp_path):
    result = sweep(tmp_path, *judge_down_at_first(tmp_path), "seed=0,1", "train.max_steps=1", "hydra/launcher=parallel")
    assert result.returncode == 1
    assert "1 of 2 runs failed" in result.stderr
    assert len(done(tmp_path)) == 1


def test_slurm_gets_one_array_with_what_the_settings_ask_for(tmp_path):
    pytest.importorskip("submitit")
    options = ["hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=8", "hydra.launcher.nodes=2"]
    process = slurm(tmp_path, *GRID, *options, hold=True)
    try:
        wait_for(process, tmp_path / "script.sh")
        text = (tmp_path / "script.sh").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    asked = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")}
    assert asked >= {
        "array=0-1%2", "partition=gpu", "gpus-per-node=8", "nodes=2", "ntasks-per-node=1", "cpus-per-task=8",
        "job-name=harness", "time=720", "signal=USR2@300", "mem-per-gpu=64G",
    }  # fmt: skip
    assert "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK" in text.split("srun ")[0]
    assert "submitit.core._submit" in text
    assert not done(tmp_path)


@pytest.mark.slow
def test_a_slurm_array_runs_to_its_end(tmp_path):
    process = slurm(tmp_path, *GRID)
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 0, message
    assert len(done(tmp_path)) == 2


def finish(process: subprocess.Popen[str]) -> None:
    """The command has seen all jobs end well."""
    message = process.communicate(timeout=400)[1]
    assert process.returncode == 0, message


@pytest.mark.slow
def test_a_job_on_two_nodes_trains_though_the_second_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    nodes = ["hydra.launcher.nodes=2", "train.nodes=2", "train.sharding=fsdp", "stages=[train]"]
    finish(slurm(tmp_path, "noise=symnoise", "alpha=5", "train.max_steps=2", *nodes))
    assert len(done(tmp_path)) == 1
    assert (tmp_path / "cores").read_text() == "8"


@pytest.mark.slow
def test_a_job_near_its_limit_saves_before_it_is_queued_again(tmp_path):
    """SLURM sends USR2, submitit has it requeued, which kills it; all steps until then are in the checkpoint."""
    long = ["train.max_steps=300", "train.checkpoint_every=0", "stages=[train]"]
    process = slurm(tmp_path, "noise=symnoise", "alpha=5", *long)
    place = tmp_path / "runs"
    while not list(place.glob("tiny-*/metrics.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    os.kill(int((tmp_path / "node-0").read_text()), signal.SIGUSR2)
    wait_for(process, tmp_path / "requeued-7")
    finish(process)
    (run,) = done(tmp_path)
    log = (run / "log.txt").read_text()
    assert log.count("saved, leaving") == 1
    assert log.count("train: starts") == 2
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 301))


@pytest.mark.slow
def test_data_edited_while_a_job_waits_are_refused(tmp_path):
    rows = [{"instruction": f"Say {n}.", "input": "", "output": f"{n}"} for n in range(60)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    options = ["dataset=alpaca", f"dataset.path={tmp_path / 'rows.json'}", "seed=0,1"]
    process = slurm(tmp_path, *options, hold=True)
    wait_for(process, tmp_path / "script.sh")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    (tmp_path / "rows.json").write_text(json.dumps(rows[::-1]))
    # The queue moves on: the job starts as the cluster would start it.
    script = (tmp_path / "script.sh").read_text()
    given = environment(PATH=f"{SLURM}:{os.environ['PATH']}")
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_JOB_NODELIST": "localhost",
    }
    place = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}
    subprocess.run(["bash", "-c", script], env=given | job | place, cwd=tmp_path, timeout=200, check=False)
    result = next(path for path in (tmp_path / "runs" / ".submitit").rglob("*_0_result.pkl"))
    check = f"import pickle; ok, value = pickle.load(open({str(result)!r}, 'rb')); print(value._return_value)"
    found = subprocess.run([sys.executable, "-c", check], env=given, capture_output=True, text=True, check=True)
    assert "settings or data changed since" in found.stdout
    assert not done(tmp_path)


_TAKE = """
import sys
from harness.system.gpus import take_gpus
print(",".join(take_gpus(int(sys.argv[1]), int(sys.argv[2]), lambda text: print(text, flush=True))), flush=True)
sys.stdin.read()
"""


def test_runs_on_one_node_get_gpus_of_their_own(tmp_path):
    """Four GPUs by name: two runs of one, one of two; the next waits until the first ends."""
    given = environment(CUDA_VISIBLE_DEVICES="0,1,2,3", TMPDIR=str(tmp_path))
    given.pop("SLURM_JOB_ID", None)

    def take(count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _TAKE, str(count), "1"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(command, env=given, text=True, **pipes)

    runs = []
    held = []
    for count in (1, 2, 1):
        runs.append(take(count))
        held.append(runs[-1].stdout.readline().strip())
    assert held == ["0", "1,2", "3"]
    runs.append(take(1))
    assert runs[-1].stdout.readline() == "waiting for 1 free of the GPUs 0,1,2,3\n".replace(",", ", ")
    runs[1].kill()
    assert runs[-1].stdout.readline().strip() == "1"
    for run in runs:
        run.kill()
        run.communicate()


def test_more_gpus_than_there_are_is_an_error(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match=r"train.devices=4: only 2 GPUs are visible \(0, 1\)"):
        take_gpus(4, 1, print)
