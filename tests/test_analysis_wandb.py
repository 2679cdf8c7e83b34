"""W&B copies of runs give the same frames as the run folders: offline logs, and the API after `wandb sync`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from run_folders import config_of, write_run
from wandb_logs import log_run
from wandb_server import WandbServer, wandb_server

from analysis import Runs, load_runs
from analysis.offline import find_logs

FRAMES = ("runs", "configs", "history", "generations", "preferences")
API_KEY = "0" * 40


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs on disk (runs/) and their offline logs (logs/wandb/): two finished, one diverged, one failed."""
    root = tmp_path_factory.mktemp("sweep")
    history = [{"step": 1, "train/loss": 2.5, "train/grad_norm": None}, {"step": 2, "train/loss": 2.0, "a": 7}]
    final = {"train/loss": 2.0, "heldout/loss": 1 / 3}
    preferences = [1.0, None, 1.7, 2.0]
    settings = {"alpha": 5.0, "train__lr": 5e-5}
    write_run(root / "runs", config_of("neftune", seed=0, **settings), final, preferences, [3, 0, 7, 9], history)
    write_run(root / "runs", config_of("none", seed=1), final, preferences, history=history)
    write_run(root / "runs", config_of("symnoise", seed=0), final, status="diverged")
    write_run(root / "runs", config_of("symnoise", seed=1), status="failed")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(root / "logs" / name.lower()))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        for folder in sorted((root / "runs").iterdir()):
            log_run(folder, root / "logs")
    return root


def assert_same(copy: Runs, disk: Runs) -> None:
    for name in FRAMES:
        assert_frame_equal(getattr(copy, name), getattr(disk, name), obj=name)
    ours, theirs = (runs.excluded[["run_id", "status"]] for runs in (copy, disk))
    assert_frame_equal(ours, theirs)


def test_offline_logs_give_the_frames_of_the_run_folders(sweep: Path) -> None:
    disk = load_runs(sweep / "runs")
    assert len(disk.runs) == 2
    assert len(disk.history) == 4
    assert disk.preferences["model_wins"].isna().sum() == 2
    assert_same(load_runs(sweep / "logs"), disk)
    assert_same(load_runs(sweep / "logs" / "wandb"), disk)


def test_a_single_offline_run_is_a_source(sweep: Path) -> None:
    log = next(path for path in find_logs(sweep / "logs") if "none" in path.name)
    assert load_runs(log.parent).runs["noise"].tolist() == ["none"]


def copy_of_log(sweep: Path, tmp_path: Path, name: str) -> Path:
    log = next(path for path in find_logs(sweep / "logs") if name in path.name)
    return Path(shutil.copytree(log.parent, tmp_path / log.parent.name)) / log.name


def test_a_torn_log_is_an_incomplete_run_with_what_was_written(sweep: Path, tmp_path: Path) -> None:
    log = copy_of_log(sweep, tmp_path, "neftune")
    log.write_bytes(log.read_bytes()[:-20])
    torn = load_runs(tmp_path, include=("incomplete",))
    assert torn.runs["status"].tolist() == ["incomplete"]
    assert torn.history["train/loss"].tolist() == [2.5, 2.0]
    assert load_runs(tmp_path).excluded["reason"].str.contains("no end").all()


def test_a_log_damaged_in_the_middle_is_refused(sweep: Path, tmp_path: Path) -> None:
    log = copy_of_log(sweep, tmp_path, "neftune")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"run-.*neftune.*damaged at byte \d+"):
        load_runs(tmp_path)


def test_the_newest_log_of_a_run_counts(sweep: Path, tmp_path: Path) -> None:
    log = copy_of_log(sweep, tmp_path, "neftune")
    earlier = tmp_path / log.parent.name.replace("offline-run-2", "offline-run-1")
    shutil.copytree(log.parent, earlier)
    runs = load_runs(tmp_path)
    assert len(runs.runs) == 1
    assert runs.excluded["status"].tolist() == ["incomplete"]
    assert runs.excluded["origin"].tolist() == [str(earlier)]


@pytest.fixture(scope="module")
def synced(sweep: Path) -> Iterator[WandbServer]:
    """A server that `wandb sync` sent the finished sweep to; the client here is pointed at it."""
    with wandb_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(sweep / "online" / name.lower()))
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", API_KEY)
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_SILENT", "true")
        folders = [str(log.parent) for log in find_logs(sweep / "logs")]
        wandb = [sys.executable, "-m", "wandb", "sync", "-e", "team", "-p", "study", *folders]
        done = subprocess.run(wandb, capture_output=True, text=True, timeout=60, env=dict(os.environ), cwd=sweep)
        assert done.returncode == 0, done.stderr
        yield server


def test_a_synced_sweep_reads_back_through_the_api(sweep: Path, synced: WandbServer) -> None:
    assert set(synced.runs) == {path.name for path in (sweep / "runs").iterdir()}
    assert_same(load_runs("team/study"), load_runs(sweep / "runs"))


def test_the_api_can_be_asked_for_one_group(synced: WandbServer) -> None:
    assert len(load_runs("team/study", group="sweep").runs) == 2
    with pytest.raises(ValueError, match="only a W&B project can be filtered"):
        load_runs(Path(__file__).parent, group="sweep")
    assert load_runs("team/study", group="another").runs.empty
    synced.runs["stranger"] = type(next(iter(synced.runs.values())))("stranger", "study", "team")
    try:
        assert "foreign" in load_runs("team/study").excluded["status"].tolist()
    finally:
        del synced.runs["stranger"]


@pytest.mark.usefixtures("synced")
def test_the_api_can_be_asked_with_its_own_filters() -> None:
    found = load_runs("team/study", filters={"config.run.noise.name": "neftune", "group": "sweep"})
    assert found.runs["noise"].tolist() == ["neftune"]
    assert found.excluded.empty


@pytest.mark.usefixtures("synced")
def test_empty_project_frames_have_their_columns() -> None:
    runs = load_runs("team/study", group="another")
    assert {"run_id", "noise", "seed"} <= set(runs.runs)
    assert isinstance(runs.preferences, pd.DataFrame)
    assert "model_wins" in runs.preferences


def test_what_the_harness_tracks_is_what_it_wrote(compose: Callable, tmp_path: Path) -> None:
    """The tracker itself, not its stand-in: config, history, final numbers and end."""
    from harness.record import RunFolder
    from harness.tracking import Tracker

    config = compose("noise=symnoise", "alpha=5", "tracking=offline", "tracking.group=sweep")
    root = Path(config.output_dir)
    final = {"train/loss": 1.5, "judge/win_rate": 50.0}
    write_run(root, config.model_dump(mode="json"), final, [1.5], name="tracked")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
        tracker = Tracker(config, "tracked", RunFolder(root / "tracked"))
        tracker.finish({**final, "generate/characters": 10.0}, {}, "finished")
    disk, copy = load_runs(root), load_runs(root / "wandb")
    for name in ("runs", "configs", "history"):
        assert_frame_equal(getattr(copy, name), getattr(disk, name), obj=name)
