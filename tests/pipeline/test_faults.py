"""What goes wrong with machines, done for real: kills in every stage, full disks, damaged files, two sweeps at once."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.commands import SMALL, environment, sweep
from support.forked import run_module
from support.runs import folder_of

from analysis import load_runs
from harness.config import Config
from harness.pipeline.plan import RunFailed, make_plan
from harness.pipeline.runner import execute
from harness.record import RunFolder

# Stages long enough to be hit: 60 instructions, 30 steps.
LONGER = [*SMALL, "eval_set.heldout=50", "train.max_steps=30", "generate.max_new_tokens=40", "noise=symnoise"]
MEASURED = ("second", "time_per", "time_percent", "peak_memory")  # in the names of what is no result


def start(place: Path, *overrides: str, tracking: str = "disabled", **options: Any) -> subprocess.Popen:
    command = [sys.executable, "-m", "harness", *overrides, f"output_dir={place}", f"tracking={tracking}"]
    return subprocess.Popen(command, env=environment(), cwd=place.parent, stderr=subprocess.PIPE, **options)


def results(config: Config) -> dict[str, Any]:
    """Everything that a run produced, but for what measures time."""
    folder = folder_of(config)
    found: dict[str, Any] = {
        name: json.loads((folder / name).read_text()) for name in ("model_outputs.json", "annotations.json")
    }
    found["metrics"] = folder.metrics()
    found["final"] = [json.loads((folder / "summary.json").read_text())["final"]]
    for rows in found.values():
        for row in rows:
            for key in [key for key in row if any(word in key for word in MEASURED)]:
                del row[key]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that nothing happened to."""
    place = tmp_path_factory.mktemp("undisturbed") / "runs"
    line = [*LONGER, f"output_dir={place}", "tracking=disabled"]
    done = run_module("harness", *line, cwd=place.parent, env=environment())
    assert done.returncode == 0, done.stderr
    return place


# One of each stage and signal in the normal suite, the others slow (test_pipeline has two of the training).
_QUICK = {("train", signal.SIGINT), ("generate", signal.SIGKILL), ("judge", signal.SIGTERM)}


@pytest.mark.parametrize(
    ("stage", "how"),
    [
        pytest.param(stage, how, id=f"{stage}-{how.name}", marks=[] if (stage, how) in _QUICK else pytest.mark.slow)
        for stage in ("train", "generate", "judge", "probe")
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    ],
)
def test_the_same_command_after_an_interruption_ends_as_if_there_had_been_none(
    stage, how, undisturbed, compose, tmp_path
):
    place = tmp_path / "disturbed"
    process = start(place, *LONGER)
    wait_for_line(process, place, f"{stage}: starts")
    process.send_signal(how)
    message = process.communicate(timeout=60)[1].decode()
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    if how == signal.SIGINT:
        said = message.rstrip().replace("\r", "\n").splitlines()[-1]
        place_in_it = f"in the stage {stage}" + (r"|at step \d+ of \d+" if stage == "train" else "")
        assert re.fullmatch(f"interrupted ({place_in_it}); repeat the command to continue", said), message
        assert "Traceback" not in message
    config = compose(*LONGER, f"output_dir={place}")
    assert not (folder_of(config) / "done").exists()
    execute(config)
    expected = compose(*LONGER, f"output_dir={undisturbed}")
    assert results(config) == results(expected)
    weights, reference = (load_file(folder_of(each) / "model" / "model.safetensors") for each in (config, expected))
    assert all(weights[name].equal(reference[name]) for name in reference)


def wait_for_line(process: subprocess.Popen, place: Path, text: str) -> None:
    deadline = time.monotonic() + 200
    while not any(text in log.read_text() for log in place.glob("*/log.txt")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_full_disk_is_one_clear_error_and_room_lets_the_run_go_on(compose, tmp_path):
    """A tmpfs with room for less than the checkpoint; where mounting is forbidden, a limit on the size of a file."""
    place = tmp_path / "small" / "runs"
    place.parent.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", place.parent]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    limit = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        process = start(place, *SMALL, tracking="offline", preexec_fn=limit)
        message = process.communicate(timeout=200)[1].decode()
        assert process.returncode == 1, message
        errors = [line for line in message.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "No space left on device" in message or "File too large" in message
        if mounted:
            assert "the disk is full: free some space" in message
            subprocess.run(["mount", "-o", "remount,size=50m", place.parent], check=True)
        config = compose(*SMALL, f"output_dir={place}", "tracking=offline")
        assert execute(config)["status"] == "finished"
        assert not list(folder_of(config).path.rglob("*.tmp"))
        copy, disk = load_runs(place / "wandb"), load_runs(place)
        assert copy.history["train/loss"].tolist() == disk.history["train/loss"].tolist()
        assert len(disk.history) == 6
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place.parent], check=True)


def test_an_unwritable_output_folder_is_refused_before_anything_starts(compose, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    config = compose(*SMALL, f"output_dir={tmp_path / 'file' / 'runs'}")
    with pytest.raises(ValueError, match=r"output_dir=.*cannot be written"):
        make_plan([config])


def test_a_read_only_output_folder_is_refused_before_anything_starts(compose, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is forbidden here, and root may write to any folder that is not read-only")
    try:
        with pytest.raises(ValueError, match=r"output_dir=.*cannot be written"):
            make_plan([compose(*SMALL)])
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    grid = ["seed=0,1,2", "stages=[train,generate,judge]", "tracking=disabled", "harness.workers=1"]
    command = [sys.executable, "-m", "harness", "-m", *SMALL, *grid]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    messages = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    runs = [RunFolder(path) for path in (tmp_path / "runs").glob("tiny-*")]
    assert len(runs) == 3
    for run in runs:
        log = (run / "log.txt").read_text()
        assert [log.count(f"{stage}: finished") for stage in ("train", "generate", "judge")] == [1, 1, 1]
        assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]


def interrupted(compose: Any, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Config:
    """A run that broke off after its fifth step, with checkpoints of the second and fourth."""
    config = compose(*SMALL, "noise=symnoise", *overrides)
    original = RunFolder.append_metrics

    def append(self: RunFolder, row: dict[str, Any]) -> None:
        original(self, row)
        if row["step"] == 5:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", append)
        with pytest.raises(RunFailed, match="power cut"):
            execute(config)
    assert [path.name for path in sorted((folder_of(config) / "checkpoints").iterdir())] == [
        "step-00000002",
        "step-00000004",
    ]
    return config


def test_a_truncated_checkpoint_is_refused_and_the_one_before_it_used(compose, monkeypatch, tmp_path):
    config = interrupted(compose, monkeypatch)
    for file in (folder_of(config) / "checkpoints" / "step-00000004").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])
    starts: list[int] = []
    original = RunFolder.truncate_metrics
    monkeypatch.setattr(
        RunFolder, "truncate_metrics", lambda self, step: (starts.append(step), original(self, step))[1]
    )
    execute(config)
    assert starts == [2]
    assert "step-00000004 refused: " in (folder_of(config) / "log.txt").read_text()
    expected = compose(*SMALL, "noise=symnoise", f"output_dir={tmp_path / 'whole'}")
    execute(expected)
    assert results(config) == results(expected)


def test_a_checkpoint_of_other_settings_is_refused(compose, monkeypatch, tmp_path):
    other = interrupted(compose, monkeypatch, "train.lr=1e-3", f"output_dir={tmp_path / 'other'}")
    config = compose(*SMALL, "noise=symnoise")
    shutil.copytree(folder_of(other) / "checkpoints", folder_of(config) / "checkpoints")
    execute(config)
    log = (folder_of(config) / "log.txt").read_text()
    assert log.count("refused: it belongs to other settings") == 2
    expected = compose(*SMALL, "noise=symnoise", f"output_dir={tmp_path / 'whole'}")
    execute(expected)
    assert results(config) == results(expected)


def test_a_run_without_memory_fails_alone_and_says_what_to_do(tmp_path):
    """An allocation of terabytes, which no machine grants."""
    result = sweep(tmp_path, "model.architecture.hidden_size=32,4000000000", "train.max_steps=1", "tracking=disabled")
    assert result.returncode == 1
    assert "1 of 2 runs failed" in result.stderr
    assert "warning: model=tiny: the weights alone take 256,000,035,840 GB" in result.stderr  # before the first run
    assert "out of memory: try train.micro_batch_tokens (now 2048)" in result.stderr
    states = sorted(next(name for name in ("done", "failed") if (run / name).exists()) for run in runs_in(tmp_path))
    assert states == ["done", "failed"]


def runs_in(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "runs").glob("tiny-*") if path.is_dir()]


def test_a_clock_that_jumps_back_changes_no_result(compose, monkeypatch, tmp_path):
    expected = compose(*SMALL, f"output_dir={tmp_path / 'steady'}")
    execute(expected)
    times = iter(range(10**9, 0, -100_000))
    monkeypatch.setattr(time, "time", lambda: float(next(times)))
    config = compose(*SMALL)
    execute(config)
    assert results(config) == results(expected)
    rows = folder_of(config).metrics()
    assert all(row["train/seconds"] >= 0 for row in rows)
