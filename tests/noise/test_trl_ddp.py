"""TRL's SFTTrainer in two processes under torchrun (gloo): a pair is that of one process, written by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from support.commands import ROOT, environment
from support.sft import CLOSE, LENGTHS, by_hand
from support.sft_ranks import STEPS, SYMNOISE

pytest.importorskip("trl")
RANKS = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    meet = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-endpoint", str(folder / "meet")]
    script = [str(ROOT / "tests" / "support" / "sft_ranks.py"), str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), *meet, *script]
    done = subprocess.run(
        command, env=environment(ROOT / "tests"), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", STEPS)
def test_a_pair_in_two_processes_is_two_passes_in_one(name: str, ranks: list[dict[str, Any]]) -> None:
    loss, gradient = by_hand(SYMNOISE, completion_only=True)
    for rank in ranks:
        assert rank[name]["loss"] == pytest.approx(loss, rel=1e-6)
        # accelerate's DDP averages in float64; the rest as in one process.
        assert (rank[name]["gradient"] - gradient).norm() <= CLOSE * gradient.norm()
    # Each process had other documents, and both copies of each.
    if name != "accumulated":  # there the first of two micro-batches was looked at
        first = [sorted(rank[name]["lengths"]) for rank in ranks]
        assert sorted(first[0] + first[1]) == sorted(LENGTHS * 2)


def test_two_processes_resume_with_the_same_noise(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert torch.equal(rank["resumed"]["weights"], rank["straight"]["weights"])
        assert torch.equal(rank["straight"]["weights"], ranks[0]["straight"]["weights"])


def test_evaluation_between_the_steps_of_two_processes_is_clean(ranks: list[dict[str, Any]]) -> None:
    """The last one, between training's hooks, equals one after training, when there are none."""
    for rank in ranks:
        assert len(rank["straight"]["evaluated"]) == 5
        assert rank["straight"]["evaluated"][3] == rank["straight"]["after"]
        assert rank["straight"]["evaluated"][0] != rank["straight"]["after"]
