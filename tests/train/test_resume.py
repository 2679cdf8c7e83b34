"""An interrupted training goes on as if nothing had happened: its counts, its losses, its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.commands import SMALL
from support.runs import folder_of, pending_of

from harness.config import Config
from harness.pipeline.plan import RunFailed
from harness.pipeline.runner import execute
from harness.record import RunFolder
from harness.train.checkpoint import Checkpoints

Compose = Callable[..., Config]
COUNTS = ("train/documents", "train/rows", "train/tokens", "train/flops")


def interrupted_at(step: int, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until SIGTERM arrives while a step is written down."""
    original = RunFolder.append_metrics

    def append(self: RunFolder, row: dict[str, Any]) -> None:
        original(self, row)
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", append)
        with pytest.raises(SystemExit) as left:
            execute(config)
    assert left.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("step", [1, 7], ids=["before the first logged row", "between two logged rows"])
def test_the_counts_go_on_where_the_steps_do(
    step: int, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = [*SMALL, "noise=symnoise", "train.max_steps=10", "train.log_every=5", "train.checkpoint_every=0"]
    config = compose(*options, "stages=[train]")
    interrupted_at(step, config, monkeypatch)
    assert pending_of(config)[0] == "train"
    execute(config)
    whole = compose(*options, "stages=[train]", f"output_dir={tmp_path / 'whole'}")
    execute(whole)
    everything = [folder_of(each).metrics() for each in (config, whole)]
    assert [[row["step"] for row in rows] for rows in everything] == [list(range(1, 11))] * 2
    ours, theirs = ([row for row in rows if "train/tokens" in row] for rows in everything)
    assert [row["step"] for row in ours] == [5, 10]
    assert [[row[key] for key in COUNTS] for row in ours] == [[row[key] for key in COUNTS] for row in theirs]
    assert ours[-1]["train/documents"] == 80
    assert ours[-1]["train/rows"] == 160
    assert [row["train/loss"] for row in ours] == [row["train/loss"] for row in theirs]
    assert ours[-1]["train/seconds"] > ours[0]["train/seconds"]


def test_checkpoints_written_in_the_background_resume_bitwise(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """train.checkpoint_async=true: steps go on while a checkpoint is on its way, and what is resumed is the same."""
    options = [*SMALL, "noise=symnoise", "train.max_steps=10", "train.checkpoint_every=2", "stages=[train]"]
    config = compose(*options, "train.checkpoint_async=true")
    waited: list[int] = []
    original = Checkpoints.wait

    def wait(self: Checkpoints) -> None:
        waited.append(1)
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "wait", wait)
        interrupted_at(7, config, monkeypatch)
    assert len(waited) == 5, "before each of the saves at 2, 4, 6 and 7, and once on leaving; not after each"
    execute(config)
    whole = compose(*options, f"output_dir={tmp_path / 'whole'}")
    execute(whole)
    ours, theirs = (load_file(folder_of(each) / "model" / "model.safetensors") for each in (config, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.parametrize("heldout", [8, 0])
def test_a_blow_up_in_the_last_step_is_a_divergence(heldout: int, compose: Compose) -> None:
    options = ["train.max_steps=1", "train.lr=1e30", "train.max_grad_norm=1e30", "train.warmup_ratio=0.0"]
    config = compose(*SMALL, *options, f"dataset.heldout={heldout}")
    summary = execute(config)
    assert summary["status"] == "diverged"
    assert summary["final"]["train/loss"] > 0
    assert "eval/loss" not in summary["final"]
    assert "after the last step" in (folder_of(config) / "log.txt").read_text()
    assert not (folder_of(config) / "model").exists()
    assert pending_of(config) == []


def broken_off(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run that was cut off after step 5, with checkpoints of steps 2 and 4."""
    config = compose(*SMALL, "stages=[train]")
    original = RunFolder.append_metrics

    def append(self: RunFolder, row: dict[str, Any]) -> None:
        original(self, row)
        if row["step"] == 5:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_metrics", append)
        with pytest.raises(RunFailed, match="power cut"):
            execute(config)
    return config


@pytest.mark.parametrize("file", ["model-00000.safetensors", "optimizer-00000.safetensors"])
def test_a_checkpoint_with_a_flipped_bit_is_refused(
    file: str, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = broken_off(compose, monkeypatch)
    path = folder_of(config) / "checkpoints" / "step-00000004" / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # of the last tensor: the file is as whole as before
    path.write_bytes(content)
    execute(config)
    log = (folder_of(config) / "log.txt").read_text()
    assert f"step-00000004 refused: {file} is not what was written (its checksum differs)" in log
    whole = compose(*SMALL, "stages=[train]", f"output_dir={tmp_path / 'whole'}")
    execute(whole)
    weights, expected = (load_file(folder_of(each) / "model" / "model.safetensors") for each in (config, whole))
    assert all(weights[name].equal(expected[name]) for name in expected)


def test_zeros_after_the_checkpoint_are_written_again(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = broken_off(compose, monkeypatch)
    path = folder_of(config) / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + b"\0" * 200 + b'\n{"step": 5}\n{"step": 6, "tra')
    execute(config)
    assert [row["step"] for row in folder_of(config).metrics()] == [1, 2, 3, 4, 5, 6]


def test_a_bad_line_before_the_checkpoint_is_named(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = broken_off(compose, monkeypatch)
    path = folder_of(config) / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0\0\0\n" + b"".join(lines[2:]))
    with pytest.raises(RunFailed, match=r"metrics\.jsonl: line 2 is not a logged step: b'\\x00\\x00\\x00'; delete"):
        execute(config)
