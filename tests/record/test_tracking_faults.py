"""W&B that is away, dies or dawdles: the run goes on, says so, and the copy is completed later, each row once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.commands import SMALL, environment
from support.runs import folder_of, pending_of
from support.wandb_run import StoredRun
from support.wandb_server import WandbServer, wandb_server

from analysis.sources.runs import load_runs
from harness.config import Config
from harness.pipeline.runner import execute
from harness.record.tracking import Tracker, wandb_backend

API_KEY = "0" * 40
ONLINE = [*SMALL, "tracking=online", "tracking.entity=team", "tracking.project=study", "noise=symnoise"]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The real client, pointed at this machine, with little patience."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(wandb_backend, "_PATIENCE_S", 6.0)
    yield monkeypatch
    import wandb

    wandb.teardown()  # the service keeps the server's address


def sync(folder: Path, server: WandbServer) -> None:
    """`wandb sync` of every log below an output folder."""
    logs = [str(path) for path in sorted((folder / "wandb").glob("*run-2*"))]
    environment = {**os.environ, "WANDB_BASE_URL": server.url}
    command = [sys.executable, "-m", "wandb", "sync", "-e", "team", "-p", "study", *logs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr


def assert_complete(config: Config, stored: StoredRun) -> None:
    """The copy has every logged row once, and every final number."""
    rows = folder_of(config).metrics()
    history = [row for row in stored.history if "train/loss" in row]
    assert all(row["train/global_step"] == row["_step"] for row in history)
    assert [row["_step"] for row in history] == [row["step"] for row in rows]
    assert [row["train/loss"] for row in history] == [row["train/loss"] for row in rows]
    assert stored.summary["status"] == "finished"
    assert {"eval/loss", "judge/win_rate"} <= set(stored.summary)
    assert set(stored.summary["train/loss"]) == {"min", "last"}


def assert_tables_once(stored: StoredRun) -> None:
    assert sum("generations" in row for row in stored.history) == 1


def only(server: WandbServer) -> StoredRun:
    (run,) = server.runs.values()
    return run


def test_an_unreachable_server_makes_an_offline_log_that_syncs_later(compose, client, capsys):
    with wandb_server() as server:
        port = server.server_port
    client.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")  # nobody listens there any more
    config = compose(*ONLINE)
    started = time.monotonic()
    assert execute(config)["status"] == "finished"
    waited = time.monotonic() - started
    assert "W&B cannot be reached" in capsys.readouterr().err
    assert "W&B cannot be reached" in (folder_of(config) / "log.txt").read_text()
    assert pending_of(config) == ["record"]
    with wandb_server(port) as server:
        sync(Path(config.output_dir), server)
        assert_complete(config, only(server))
        assert pending_of(config) == []
    assert waited < 180  # not for ever; twice 30 s and what a busy machine adds


@pytest.mark.slow
def test_the_same_command_uploads_what_an_unreachable_server_missed(compose, client):
    with wandb_server() as server:
        port = server.server_port
    client.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    config = compose(*ONLINE)
    execute(config)
    with wandb_server(port) as server:
        execute(config)
        sync(Path(config.output_dir), server)  # nothing is left for it
        assert_complete(config, only(server))
        assert_tables_once(only(server))
        assert pending_of(config) == []


@pytest.mark.slow
def test_a_server_that_dies_during_the_run_loses_nothing(compose, client, capsys):
    config = compose(*ONLINE, "train.max_steps=30")
    with wandb_server() as server:
        client.setenv("WANDB_BASE_URL", server.url)
        port = server.server_port
        original = Tracker.log

        def log(self: Tracker, row: dict[str, Any]) -> None:
            original(self, row)
            if row["step"] == 10:
                time.sleep(2)  # let the first rows arrive
                server.shutdown()
                server.server_close()

        client.setattr(Tracker, "log", log)
        early = server.runs
        assert execute(config)["status"] == "finished"
    assert "W&B stopped responding" in capsys.readouterr().err
    with wandb_server(port) as server:
        server.runs = early  # what it had received before
        # `wandb sync` would append the whole log to the rows that had arrived: its mark keeps it from that.
        arrived = list(only(server).history)
        assert 0 < len(arrived) < 30
        sync(Path(config.output_dir), server)
        assert only(server).history == arrived
        assert pending_of(config) == ["record"]
        assert execute(config)["status"] == "finished"
        assert_complete(config, only(server))
        assert_tables_once(only(server))
        assert pending_of(config) == []
        assert not list((Path(config.output_dir) / "wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_a_slow_server_does_not_hold_the_training_up(compose, client, capsys):
    """Answers take longer than the patience: the end waits that long once, and the same command completes the copy."""
    config = compose(*ONLINE, "train.max_steps=30")
    with wandb_server() as server:
        client.setenv("WANDB_BASE_URL", server.url)
        original = Tracker.log

        def log(self: Tracker, row: dict[str, Any]) -> None:
            original(self, row)
            if row["step"] == 10:
                time.sleep(2)  # let the first rows arrive
                server.delay = 8.0

        with client.context() as patch:
            patch.setattr(Tracker, "log", log)
            assert execute(config)["status"] == "finished"
        assert "W&B stopped responding" in capsys.readouterr().err
        server.delay = 0.0
        time.sleep(9)  # what was on its way arrives or is dropped
        assert pending_of(config) == ["record"]
        assert execute(config)["status"] == "finished"
        assert_complete(config, only(server))
        assert pending_of(config) == []


def _with_service(root: Path, steps: int) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run by command in the middle of its training, and W&B's service, which is a process of its own."""
    command = [sys.executable, "-m", "harness", *SMALL, f"train.max_steps={steps}", "generate.max_new_tokens=1"]
    process = subprocess.Popen([*command, f"output_dir={root}"], env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(root.glob("*/checkpoints/step-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    service = psutil.Process(process.pid).children(recursive=True)
    assert service
    return process, service


def test_a_signal_to_every_process_of_a_job_is_one_to_its_run(tmp_path: Path) -> None:
    """What `scancel` does: W&B's service has gone when the run logs its last steps and closes its log."""
    process, service = _with_service(tmp_path, steps=4000)
    for each in (*service, process):
        each.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert "SIGTERM: saved, leaving" in next(tmp_path.glob("*/log.txt")).read_text("utf-8")


def test_a_run_outlives_the_service_of_its_tracker(tmp_path: Path) -> None:
    """As where memory runs out: the kernel kills the service, and the copy is complete nevertheless."""
    process, service = _with_service(tmp_path, steps=300)
    for each in service:
        each.kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "service has died" in next(tmp_path.glob("*/log.txt")).read_text("utf-8")
    copy, disk = load_runs(tmp_path / "wandb"), load_runs(tmp_path)
    assert copy.history["train/loss"].tolist() == disk.history["train/loss"].tolist()
    assert len(disk.history) == 300


def killing(patch: pytest.MonkeyPatch, times: int) -> None:
    """The service is killed before the third row is logged, and each new one once it has opened the run."""
    opened = wandb_backend.open_run
    left = [times]

    def open_run(*arguments: Any) -> Any:
        run = opened(*arguments)
        kill_service()
        return run

    def kill_service() -> None:
        if left[0]:
            left[0] -= 1
            services = [each for each in psutil.Process().children(recursive=True) if "wandb-core" in each.name()]
            assert services
            for each in services:
                each.kill()
            psutil.wait_procs(services, timeout=10)

    original = Tracker.log

    def log(self: Tracker, row: dict[str, Any]) -> None:
        if row["step"] == 3:
            patch.setattr(wandb_backend, "open_run", open_run)
            kill_service()
        original(self, row)

    patch.setattr(Tracker, "log", log)


def copied(config: Config) -> list[float]:
    """The losses in W&B's copy, which are those on disk."""
    root = Path(config.output_dir)
    copy, disk = load_runs(root / "wandb"), load_runs(root)
    assert copy.history["train/loss"].tolist() == disk.history["train/loss"].tolist()
    assert copy.runs["status"].tolist() == ["finished"]
    return disk.history["train/loss"].tolist()


def test_a_service_that_dies_again_while_a_row_is_logged_costs_nothing(compose, client, capsys):
    killing(client, times=3)
    config = compose(*SMALL, "tracking=offline")
    assert execute(config)["status"] == "finished"
    assert "W&B" not in capsys.readouterr().err
    assert (folder_of(config) / "log.txt").read_text("utf-8").count("W&B's service has died") == 3
    assert len(copied(config)) == 6
    assert pending_of(config) == []


def test_a_service_that_dies_every_time_is_given_up_and_the_same_command_completes_the_copy(compose, client, capsys):
    config = compose(*SMALL, "tracking=offline")
    with client.context() as patch:
        killing(patch, times=99)
        assert execute(config)["status"] == "finished"
    said = "W&B's service has died 4 times"
    assert capsys.readouterr().err.count(said) == 1
    assert (folder_of(config) / "log.txt").read_text("utf-8").count(said) == 1
    assert len(folder_of(config).metrics()) == 6
    assert pending_of(config) == ["record"]
    assert execute(config)["status"] == "finished"
    assert len(copied(config)) == 6
    assert pending_of(config) == []
