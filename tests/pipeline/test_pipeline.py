"""One run from end to end: what lands in its folder, what is skipped, what an interruption costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.commands import SMALL, environment
from support.runs import folder_of, pending_of

from harness.pipeline.plan import RunFailed, job_of, make_plan, pending_stages
from harness.pipeline.runner import execute
from harness.record import RunFolder


def test_a_run_leaves_everything_in_its_folder(compose):
    config = compose(*SMALL, "noise=symnoise")
    summary = execute(config)
    folder = folder_of(config)
    names = {path.name for path in folder.path.iterdir()}
    assert names >= {
        "config.yaml", "provenance.json", "metrics.jsonl", "model", "model_outputs.json", "completions.json",
        "annotations.json", "stages.json", "summary.json", "log.txt", "done",
    }  # fmt: skip
    assert "checkpoints" not in names
    outputs = json.loads((folder / "model_outputs.json").read_text())
    assert len(outputs) == 8
    assert set(outputs[0]) == {"dataset", "instruction", "output", "generator"}
    rows = folder.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["train/rows"] == 2 * rows[-1]["train/documents"] == 96
    assert rows[0]["noise/norm"] == pytest.approx(5.0, rel=1e-4)
    assert summary["status"] == "finished"
    assert {"train/loss", "eval/loss", "judge/win_rate", "judge/accuracy"} <= set(summary["final"])


def test_heldout_losses_are_logged_on_the_way_and_change_nothing(compose, tmp_path):
    plain = execute(compose(*SMALL, "noise=symnoise"))
    rows = folder_of(compose(*SMALL, "noise=symnoise")).metrics()
    config = compose(*SMALL, "noise=symnoise", "train.heldout_every=3", f"output_dir={tmp_path / 'watched'}")
    watched = execute(config)
    again = folder_of(config).metrics()
    assert [row["train/loss"] for row in again] == [row["train/loss"] for row in rows]
    assert [row["step"] for row in again if "eval/loss" in row] == [3, 6]
    assert again[-1]["eval/loss"] == watched["final"]["eval/loss"] == plain["final"]["eval/loss"]
    assert watched["run_id"] == plain["run_id"]


def test_a_finished_run_is_not_run_again(compose, finished):
    config = compose(*SMALL)
    finished(config)
    files = [path for path in folder_of(config).path.rglob("*") if path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert make_plan([config]).to_run == []
    execute(config)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_the_stage_whose_settings_changed_is_run_again(compose, finished):
    config = compose(*SMALL)
    finished(config)
    other = replace(job_of(compose(*SMALL, "generate.max_new_tokens=3")), folder=folder_of(config))
    assert pending_stages(other) == ["generate", "judge", "record"]


def test_stages_can_be_run_one_by_one_with_the_same_result(compose, tmp_path, finished):
    [whole] = finished(compose(*SMALL))
    apart = [f"output_dir={tmp_path / 'apart'}"]
    for stage in ("train", "generate", "judge"):
        last = execute(compose(*SMALL, *apart, f"stages=[{stage}]"))
    steady = ("train/loss", "eval/loss", "judge/win_rate", "generate/characters")
    assert {key: last["final"][key] for key in steady} == {key: whole["final"][key] for key in steady}


def test_a_diverging_run_stops_and_is_not_tried_again(compose):
    config = compose(*SMALL, "train.lr=1e30", "train.max_grad_norm=1e30", "train.warmup_ratio=0.0")
    summary = execute(config)
    assert summary["status"] == "diverged"
    assert folder_of(config).metrics()[-1]["train/loss"] is None
    assert make_plan([config]).to_run == []
    assert not (folder_of(config) / "model").exists()


def test_a_failing_stage_leaves_its_traceback_and_the_next_attempt_continues(compose, monkeypatch):
    config = compose(*SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("harness.generate.answers.generate", lambda *_, **__: 1 / 0)
        with pytest.raises(RunFailed, match="ZeroDivisionError"):
            execute(config)
    folder = folder_of(config)
    assert "ZeroDivisionError" in (folder / "log.txt").read_text()
    assert json.loads((folder / "failed").read_text())["type"] == "ZeroDivisionError"
    assert make_plan([config]).to_run[0].pending == ["generate", "judge", "probe", "record"]
    assert execute(config)["status"] == "finished"
    assert not (folder / "failed").exists()


def test_settings_edited_after_planning_are_refused(compose):
    with pytest.raises(ValueError, match="planned as tiny-builtin-x but now tiny-builtin-neftune"):
        execute(compose(*SMALL, "harness.run_id=tiny-builtin-x"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_an_interrupted_training_ends_as_if_it_had_not_been(how, compose, tmp_path):
    undisturbed = compose(*SMALL, "noise=symnoise", "train.max_steps=40")
    execute(undisturbed)
    disturbed = tmp_path / "disturbed"
    command = [sys.executable, "-m", "harness", *SMALL, "noise=symnoise", "train.max_steps=40", "tracking=disabled"]
    process = subprocess.Popen(
        [*command, f"output_dir={disturbed}"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    )
    _wait_for_checkpoint(process, disturbed)
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    if how == signal.SIGTERM:
        _left_in_order(process, disturbed)
    again = compose(*SMALL, "noise=symnoise", "train.max_steps=40", f"output_dir={disturbed}")
    assert pending_of(again)[0] == "train"
    execute(again)
    assert _steady(folder_of(again)) == _steady(folder_of(undisturbed))
    weights, expected = (load_file(folder_of(c) / "model" / "model.safetensors") for c in (again, undisturbed))
    assert all(weights[name].equal(expected[name]) for name in expected)


def _left_in_order(process: subprocess.Popen, output_dir: Path) -> None:
    """SIGTERM lost no step: the last logged one is in a checkpoint, of which two are kept."""
    assert process.returncode == 128 + signal.SIGTERM
    (path,) = output_dir.glob("*/checkpoints")
    kept = sorted(int(each.name.removeprefix("step-")) for each in path.glob("step-*"))
    assert kept[-1] == RunFolder(path.parent).metrics()[-1]["step"]
    assert len(kept) <= 2
    assert f"step {kept[-1]}: SIGTERM: saved, leaving" in (path.parent / "log.txt").read_text()


def _wait_for_checkpoint(process: subprocess.Popen, output_dir: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(output_dir.glob("*/checkpoints/step-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _steady(folder: RunFolder) -> list[tuple]:
    """The metrics that do not measure time."""
    return [(row["step"], row["train/loss"], row["train/grad_norm"], row["train/tokens"]) for row in folder.metrics()]
