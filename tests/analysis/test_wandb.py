"""W&B copies of runs give the same frames as the run folders: offline logs, and the API after `wandb sync`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from support.run_folders import config_of, write_run
from support.wandb_logs import log_run, wait_for_end, write_log
from support.wandb_run import StoredRun
from support.wandb_server import WandbServer, wandb_server

from analysis import Runs, load_runs
from analysis.sources.wandb_offline import find_logs

FRAMES = ("runs", "configs", "history", "generations", "preferences")
API_KEY = "0" * 40
ODD = '</script>\u202e\u05d0 \U0001f600 e\u0301 \x00\x1b[31m \u2028\r\n\t\\" NaN'


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs on disk (runs/) and their offline logs (logs/wandb/): two finished, one diverged, one failed."""
    root = tmp_path_factory.mktemp("sweep")
    history = [{"step": 1, "train/loss": 2.5, "train/grad_norm": None}, {"step": 2, "train/loss": 2.0, "a": 7}]
    final = {"train/loss": 2.0, "eval/loss": 1 / 3}
    preferences = [1.0, None, 1.7, 2.0]
    settings = {"alpha": 5.0, "train__lr": 5e-5}
    finished = write_run(
        root / "runs", config_of("neftune", seed=0, **settings), final, preferences, [3, 0, 7, 9], history
    )
    for name, key in (("model_outputs.json", "output"), ("annotations.json", "output_2")):
        rows = json.loads((finished / name).read_text())
        rows[2][key], rows[3][key] = ODD, "x" * 50_000
        (finished / name).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
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
    ours, theirs = (runs.excluded.drop(columns="origin") for runs in (copy, disk))
    assert_frame_equal(ours, theirs)


def test_offline_logs_give_the_frames_of_the_run_folders(sweep: Path) -> None:
    disk = load_runs(sweep / "runs")
    assert len(disk.runs) == 2
    assert len(disk.history) == 4
    assert disk.preferences["model_wins"].isna().sum() == 2
    assert ODD in disk.generations["output"].tolist()
    assert disk.generations["length"].max() == 50_000
    assert_same(load_runs(sweep / "logs"), disk)
    assert_same(load_runs(sweep / "logs" / "wandb"), disk)


def test_the_benchmark_writes_logs_as_wandb_does(sweep: Path, tmp_path: Path) -> None:
    finished = load_runs(sweep / "runs").runs["run_id"]
    for name in finished:
        write_log(sweep / "runs" / name, tmp_path)
    for frame in FRAMES:
        theirs = getattr(load_runs(sweep / "logs"), frame)
        assert_frame_equal(getattr(load_runs(tmp_path), frame), theirs)


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


@pytest.mark.parametrize("size", [0, 7])
def test_the_log_of_a_run_killed_at_once_hides_no_other(sweep: Path, tmp_path: Path, size: int) -> None:
    copy_of_log(sweep, tmp_path, "none")
    log = copy_of_log(sweep, tmp_path, "neftune")
    log.write_bytes(log.read_bytes()[:size])
    runs = load_runs(tmp_path)
    assert runs.runs["noise"].tolist() == ["none"]
    assert runs.excluded[["run_id", "status"]].values.tolist() == [["tiny-neftune-a5-s0", "incomplete"]]


def test_a_log_that_a_crash_filled_with_zeros_is_read(sweep: Path, tmp_path: Path) -> None:
    log = copy_of_log(sweep, tmp_path, "none")
    log.write_bytes(log.read_bytes() + bytes(40_000))
    assert load_runs(tmp_path).runs["noise"].tolist() == ["none"]


def test_a_log_damaged_in_the_middle_is_unreadable(sweep: Path, tmp_path: Path) -> None:
    log = copy_of_log(sweep, tmp_path, "neftune")
    data = bytearray(log.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9] = bytes(9)  # more than a chunk's header, which alone reads as a torn end
    log.write_bytes(bytes(data))
    (run,) = load_runs(tmp_path).left_out
    assert run.status == "unreadable"
    assert re.search(r"run-.*neftune.*damaged at byte \d+", run.reason)


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
        patch.setenv("NOISE_HARNESS_CACHE", str(sweep / "cache"))
        folders = [str(log.parent) for log in find_logs(sweep / "logs")]
        wandb = [sys.executable, "-m", "wandb", "sync", "-e", "team", "-p", "study", *folders]
        done = subprocess.run(wandb, capture_output=True, text=True, timeout=60, env=dict(os.environ), cwd=sweep)
        assert done.returncode == 0, done.stderr
        yield server


def test_a_synced_sweep_reads_back_through_the_api(sweep: Path, synced: WandbServer) -> None:
    assert set(synced.runs) == {("study", path.name) for path in (sweep / "runs").iterdir()}
    assert_same(load_runs("team/study"), load_runs(sweep / "runs"))


def test_the_api_can_be_asked_for_one_group(synced: WandbServer) -> None:
    assert len(load_runs("team/study", group="sweep").runs) == 2
    with pytest.raises(ValueError, match="source=team/study: W&B has no run of group=another there"):
        load_runs("team/study", group="another")
    synced.runs["study", "stranger"] = StoredRun("stranger", "study", "team")  # without config, summary, history
    try:
        assert "foreign" in load_runs("team/study").excluded["status"].tolist()
    finally:
        del synced.runs["study", "stranger"]


@pytest.mark.usefixtures("synced")
def test_the_api_can_be_asked_with_its_own_filters() -> None:
    found = load_runs("team/study", filters={"config.noise.name": "neftune", "group": "sweep"})
    assert found.runs["noise"].tolist() == ["neftune"]
    assert found.excluded.empty


def test_what_is_in_parquet_reads_as_what_is_live(sweep: Path, synced: WandbServer) -> None:
    """W&B exports the history of a finished run; there, a step at which only a table was logged is a row of nulls."""
    for run in synced.runs.values():
        run.exported = len(run.history)
        run.touch()
    synced.operations.clear()
    assert_same(load_runs("team/study"), load_runs(sweep / "runs"))
    assert "HistoryPage" not in synced.operations
    for run in synced.runs.values():
        run.exported = 0


def test_a_second_table_asks_for_the_list_of_runs_alone(synced: WandbServer) -> None:
    first = load_runs("team/study")
    expected = [first.history, first.generations, first.preferences]
    synced.operations.clear()
    again = load_runs("team/study")
    for frame, other in zip([again.history, again.generations, again.preferences], expected, strict=True):
        assert_frame_equal(frame, other)
    assert synced.operations.count("Runs") == 1
    assert not {"RunParquetHistory", "HistoryPage", "RunFiles", "RunHistoryKeys"} & set(synced.operations)


def test_a_run_that_went_on_is_read_again(synced: WandbServer) -> None:
    before = load_runs("team/study").history
    run = next(run for run in synced.runs.values() if "neftune" in run.name)
    run.history.append({"_step": 99, "train/loss": 0.5})
    run.heartbeat += 60
    try:
        assert len(load_runs("team/study").history) == len(before) + 1
    finally:
        run.history.pop()
        run.heartbeat += 60


def test_more_runs_and_steps_than_fit_a_page(synced: WandbServer) -> None:
    """50 runs and 1,000 steps come with one request."""
    whole = next(run for run in synced.runs.values() if "neftune" in run.name)
    for seed in range(120):
        name = f"run-{seed:03d}"
        synced.runs["large", name] = replace(
            whole, name=name, project="large", config=whole.config | {"seed": {"value": seed, "desc": None}}
        )
    synced.runs["large", "run-000"].history = [{"_step": step, "train/loss": step} for step in range(0, 5000, 2)]
    runs = load_runs("team/large")
    assert runs.runs["run_id"].tolist() == [f"run-{seed:03d}" for seed in range(120)]
    assert runs.history.groupby("run_id").size().tolist()[:2] == [2500, 2]
    assert len(runs.preferences) == 120 * 4


@pytest.mark.parametrize("part", ["history", "preferences"])
def test_a_busy_server_is_asked_again(synced: WandbServer, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(Path(os.environ["NOISE_HARNESS_CACHE"]) / part))
    synced.faults = {"RunFiles": [429], "download": [500], "HistoryPage": [429]}
    assert len(getattr(load_runs("team/study"), part))


@pytest.mark.parametrize(
    ("operation", "part"), [("HistoryPage", "history"), ("RunFiles", "preferences"), ("download", "preferences")]
)
def test_a_server_that_falls_silent_ends_the_wait(
    synced: WandbServer, operation: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.sources.fetch._PATIENCE_S", 1.0)
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(Path(os.environ["NOISE_HARNESS_CACHE"]) / operation))
    for run in synced.runs.values():
        run.exported = 0
        run.touch()
    synced.faults = {operation: [0]}
    with pytest.raises(ValueError, match="W&B sent nothing for 1 s"):
        getattr(load_runs("team/study"), part)
    synced.faults = {}


def test_a_run_deleted_while_it_is_read_is_named(synced: WandbServer, tmp_path: Path) -> None:
    runs = load_runs("team/study")
    gone = {key: run for key, run in synced.runs.items() if "neftune" in run.name}
    for key in gone:
        del synced.runs[key]
    try:
        for record in runs.records:
            record.details.cache = tmp_path / record.run_id
        with pytest.raises(ValueError, match=r"neftune.*: (history|table annotations)"):
            _ = runs.history
    finally:
        synced.runs.update(gone)


@pytest.mark.usefixtures("synced")
@pytest.mark.parametrize(
    ("source", "key", "message"),
    [
        ("team/nothing", API_KEY, "source=team/nothing: no such folder, and W&B says: Could not find project nothing"),
        ("another/study", API_KEY, "Could not find project study"),
        ("team/study", "1" * 40, "user is not logged in"),
    ],
)
def test_what_w_and_b_refuses_is_one_line(source: str, key: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_runs(source)
    assert "\n" not in str(caught.value)


def test_what_the_harness_tracks_is_what_it_wrote(compose: Callable, tmp_path: Path) -> None:
    """The tracker itself, not its stand-in: config, history, final numbers and end."""
    from harness.record import RunFolder, write_json
    from harness.record.identity import file_fingerprints
    from harness.record.tracking import Tracker

    config = compose("noise=symnoise", "alpha=5", "tracking=offline", "tracking.group=sweep")
    root = Path(config.output_dir)
    final = {"train/loss": 1.5, "judge/win_rate": 50.0}
    write_run(root, config.model_dump(mode="json"), final, [1.5], name="tracked")
    write_json(root / "tracked" / "provenance.json", {"files": file_fingerprints(config)})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
        tracker = Tracker(config, "tracked", RunFolder(root / "tracked"))
        tracker.finish({**final, "generate/characters": 10.0}, "finished")
    wait_for_end(root)
    disk, copy = load_runs(root), load_runs(root / "wandb")
    for name in ("runs", "configs", "history"):
        assert_frame_equal(getattr(copy, name), getattr(disk, name), obj=name)


@pytest.mark.parametrize(("reason", "status"), [("ValueError: no verdict", "failed"), (None, "incomplete")])
def test_a_failure_reaches_the_copy_with_its_reason(
    compose: Callable, tmp_path: Path, reason: str | None, status: str
) -> None:
    """An error is a failure; Ctrl-C and SIGTERM are none: the same command goes on."""
    from harness.record import RunFolder
    from harness.record.tracking import Tracker

    config = compose("noise=neftune", "tracking=offline")
    root = Path(config.output_dir)
    write_run(root, config.model_dump(mode="json"), status="incomplete", name=status)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
        Tracker(config, status, RunFolder(root / status)).abort(reason)
    wait_for_end(root)
    [found] = load_runs(root / "wandb").excluded.to_dict("records")
    assert (found["status"], found["reason"]) == (status, reason or "interrupted: exit code 1")


def test_another_programs_table_of_the_same_name_is_not_read(synced: WandbServer) -> None:
    synced.runs["other", "theirs"] = StoredRun("theirs", "other", "team", summary={"metrics": {"path": "nowhere"}})
    assert load_runs("team/other").excluded["status"].tolist() == ["foreign"]


def test_a_run_whose_numbers_were_not_uploaded_is_unreadable(synced: WandbServer) -> None:
    name, whole = next((name, run) for (_, name), run in synced.runs.items() if "neftune" in name)
    files = {path: body for path, body in whole.files.items() if "/metrics" not in path}
    assert len(files) < len(whole.files)
    synced.runs["cut", name] = replace(whole, project="cut", files=files)
    (run,) = load_runs("team/cut").left_out
    assert run.status == "unreadable"
    assert "table metrics" in run.reason
    assert "cut off" in run.reason
