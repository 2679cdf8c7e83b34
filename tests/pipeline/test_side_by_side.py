"""Runs of a sweep side by side: same results, failures apart, signals to all, one display."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from support.commands import SMALL, environment, judge_down_at_first, sweep

from harness.config import ModelConfig
from harness.pipeline import capacity
from harness.pipeline.capacity import Capacity, capacity_for, computing_threads, is_small, weight_bytes
from harness.pipeline.side_by_side import prepare_workers
from harness.system.display import Display

LONG = ["train.max_steps=4000", "train.checkpoint_every=0", "noise=symnoise", "tracking=disabled"]


def start(cwd: Path, *arguments: str, threads: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", "-m", *SMALL, *arguments]
    variables = environment(OMP_NUM_THREADS=str(threads))
    return subprocess.Popen(command, cwd=cwd, env=variables, stderr=subprocess.PIPE, text=True)


def results(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.glob("*/model_outputs.json")}


def wait_for_training(process: subprocess.Popen[str], runs: Path, count: int) -> list[Path]:
    deadline = time.monotonic() + 300
    while len(found := list(runs.glob("*/metrics.jsonl"))) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return [path.parent for path in found]


def children_of(process: psutil.Process, module: str) -> list[psutil.Process]:
    return [each for each in process.children() if f"multiprocessing.{module}" in " ".join(each.cmdline())]


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The process from which the workers of a command are forked, once there is one."""
    deadline = time.monotonic() + 300
    while not (found := children_of(psutil.Process(process.pid), "forkserver")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0]


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that do the runs of a command: forked from its server, or spawned."""
    command = psutil.Process(process.pid)
    forked = [each for server in children_of(command, "forkserver") for each in server.children()]
    return forked or children_of(command, "spawn")


def assert_gone(processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=120)[1] == []


def test_two_at_a_time_give_what_one_after_another_gives(tmp_path: Path) -> None:
    grid = ["noise=none,symnoise", "seed=0,1", "tracking=disabled"]
    both = sweep(tmp_path, *grid, "harness.workers=2", "output_dir=both")
    assert both.returncode == 0, both.stderr
    assert "2 runs at a time, 1 thread each\n" in both.stderr
    single = sweep(tmp_path, *grid, "harness.workers=1", "output_dir=single")
    assert single.returncode == 0, single.stderr
    assert "at a time" not in single.stderr
    assert len(results(tmp_path / "both")) == 4
    assert results(tmp_path / "both") == results(tmp_path / "single")
    assert sorted(path.name for path in (tmp_path / "both").glob("*/done")) == ["done"] * 4


def test_a_failing_run_stops_no_other(tmp_path: Path) -> None:
    down = judge_down_at_first(tmp_path)
    failed = sweep(
        tmp_path,
        *down,
        "seed=0,1,2",
        "train.max_steps=1",
        "stages=[train,generate,judge]",
        "tracking=disabled",
        "harness.workers=2",
    )
    assert failed.returncode == 1, failed.stderr
    assert "error: 1 of 3 runs failed; repeat the command to continue them" in failed.stderr
    assert len(list((tmp_path / "runs").glob("*/done"))) == 2


def test_a_killed_worker_is_reported_and_the_others_finish(tmp_path: Path) -> None:
    arguments = ["seed=0,1,2", "noise=none", "train.max_steps=200", "train.checkpoint_every=0", "stages=[train]"]
    arguments += ["tracking=disabled", "harness.workers=2"]
    process = start(tmp_path, *arguments)
    wait_for_training(process, tmp_path / "runs", 2)
    first = workers_of(process)
    first[0].kill()
    wait_for_training(process, tmp_path / "runs", 3)
    assert len(set(workers_of(process)) - set(first)) == 1  # in its place
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 1, message
    assert "its process was killed (SIGKILL); out of memory?" in message
    assert "error: 1 of 3 runs failed; repeat the command to continue them" in message
    assert len(list((tmp_path / "runs").glob("*/done"))) == 2
    again = sweep(tmp_path, *arguments[:-1])
    assert again.returncode == 0, again.stderr
    assert again.stderr.startswith("3 jobs, 3 distinct, 2 done, 1 to run\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_lets_every_run_save(how: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "seed=0,1", "harness.workers=2")
    folders = wait_for_training(process, tmp_path / "runs", 2)
    workers, server = workers_of(process), server_of(process)
    assert len(workers) == 2
    assert server.num_threads() == 1  # a fork copies no other
    assert any("libtorch_cpu" in each.path for each in server.memory_maps())  # imported there, for all
    server.send_signal(signal.SIGINT)  # as a terminal would: nothing but the command hears it
    process.send_signal(how)
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + how, message
    assert_gone([*workers, server])
    for folder in folders:
        assert list(folder.glob("checkpoints/*")), (folder / "log.txt").read_text()


@pytest.mark.parametrize("threads", [1, 2])  # forked, spawned
def test_when_the_command_is_killed_every_worker_saves_and_ends(threads: int, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "seed=0,1", "harness.workers=2", threads=threads)
    folders = wait_for_training(process, tmp_path / "runs", 2)
    processes = psutil.Process(process.pid).children(recursive=True)
    assert len(workers_of(process)) == 2
    process.kill()
    process.communicate(timeout=300)  # they hold the other end of its stderr
    assert_gone(processes)
    for folder in folders:
        assert list(folder.glob("checkpoints/*")), (folder / "log.txt").read_text()
        assert "Traceback" not in (folder / "log.txt").read_text()


@pytest.mark.parametrize("how", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_command(how: signal.Signals | None, tmp_path: Path) -> None:
    process = start(
        tmp_path, "seed=0,1", "train.max_steps=1", "stages=[train]", "tracking=disabled", "harness.workers=2"
    )
    server = server_of(process)
    if how is not None:  # while both are importing
        process.send_signal(how)
    message = process.communicate(timeout=300)[1]
    assert_gone([server])
    assert "Traceback" not in message
    assert process.returncode == {None: 0, signal.SIGINT: 130}.get(how, -(how or 0)), message


def test_workers_are_forked_only_where_no_library_starts_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for threads in (2, None):
        assert prepare_workers([], Capacity(2, threads)).get_start_method() == "spawn"


def config_for(compose, *overrides: str):
    return compose(*SMALL, *overrides)


def test_cores_and_memory_say_how_many(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(capacity, "has_gpu", lambda: False)
    monkeypatch.setattr(capacity, "cores", lambda: 8)
    monkeypatch.setattr(capacity, "free_bytes", lambda: 5 * capacity.RUN_BYTES)
    small = [config_for(compose, f"seed={seed}") for seed in range(6)]
    assert capacity_for(small) == Capacity(5, 1)
    assert capacity_for(small[:3]) == Capacity(3, 1)
    monkeypatch.setattr(capacity, "free_bytes", lambda: 0.1 * capacity.RUN_BYTES)
    assert capacity_for(small) == Capacity(1, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(capacity, "free_bytes", lambda: 100 * capacity.RUN_BYTES)
    assert capacity_for(small) == Capacity(2, 4)
    assert capacity_for([config_for(compose, "harness.workers=3")] * 6) == Capacity(3, 4)
    monkeypatch.setattr(capacity, "has_gpu", lambda: True)
    assert capacity_for(small).runs == 1


def test_a_run_alone_computes_on_the_threads_of_a_sweep(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with computing_threads(config_for(compose)):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(capacity, "SMALL_BYTES", 1)
        with computing_threads(config_for(compose)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_large_and_unknown_models_run_one_by_one(compose, tmp_path: Path) -> None:
    hub = ModelConfig.model_validate({"name": "hub", "hub_id": "someone/model"})
    assert weight_bytes(hub) is None
    assert not is_small(hub)
    folder = tmp_path / "big"
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(capacity.SMALL_BYTES)
    assert not is_small(ModelConfig.model_validate({"name": "big", "path": str(folder)}))
    assert is_small(compose("model=tiny_base").model)
    assert is_small(compose("model=tiny").model)


def test_the_bytes_of_a_model_built_from_sizes_are_those_of_its_parameters(compose) -> None:
    from harness.models.meta import meta_model

    config = compose("model=tiny").model
    parameters = sum(each.numel() for each in meta_model(config).parameters())
    assert weight_bytes(config) == pytest.approx(4 * parameters, rel=0.02)  # norms are left out


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_display_redraws_moving_lines_below_those_that_stay() -> None:
    stream = _Terminal()
    display = Display(stream)
    display.status(0, "first 10%")
    display.status(1, "second 5%")
    display.line("done: zero")
    display.status(0, "")
    screen = stream.getvalue().split("\033[")
    assert screen[0] == "first 10%\n"
    assert screen[1:] == [
        *("1F", "Jfirst 10%\nsecond 5%\n"),
        *("2F", "Jdone: zero\nfirst 10%\nsecond 5%\n"),
        *("2F", "Jsecond 5%\n"),
    ]


def test_without_a_terminal_each_state_is_a_line() -> None:
    stream = io.StringIO()
    display = Display(stream)
    display.status(0, "first 10%")
    display.line("said")
    display.status(0, "")
    assert stream.getvalue() == "first 10%\nsaid\n"


def test_the_plan_says_how_many_and_on_how_many_threads() -> None:
    assert Capacity(2, 1).describe() == "2 runs at a time, 1 thread each"
    assert Capacity(3, 2).describe() == "3 runs at a time, 2 threads each"
    assert Capacity(3).describe() == "3 runs at a time"
