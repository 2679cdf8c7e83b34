"""Checkpoints beside the training: in the background, by several processes, cut off half-way, seen late by a node."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from support.forked import context, spawn
from support.tiny_models import tiny_model
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from harness.models.shards import pieces
from harness.train import checkpoint
from harness.train.checkpoint import Checkpoints, load_checkpoint


def trained(steps: int = 1, model: Any = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = model or tiny_model("llama", tie_word_embeddings=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


@pytest.fixture
def gate(monkeypatch):
    """Writing to the disk waits for this event."""
    event, write = threading.Event(), pieces.save_file
    monkeypatch.setattr(pieces, "save_file", lambda *args, **options: (event.wait(60), write(*args, **options))[1])
    return event


def test_a_save_holds_the_state_of_its_step_though_training_goes_on(tmp_path, gate):
    model, optimizer = trained()
    expected = weights_of(model)
    with Checkpoints(tmp_path, "print", keep=2) as checkpoints:
        checkpoints.save(1, model, optimizer, {"tokens": 3})
        step(model, optimizer)  # while nothing is written yet
        assert not list(tmp_path.glob("step-*"))
        gate.set()
    assert [path.name for path in tmp_path.glob("*")] == ["step-00000001"]
    other, moments = trained(2)
    resumed = load_checkpoint(tmp_path, "print", other, moments)
    assert (resumed.step, resumed.counts, resumed.refused) == (1, {"tokens": 3}, [])
    assert all(torch.equal(each, expected[name]) for name, each in other.named_parameters())
    step(other, moments)
    assert all(torch.equal(each, model.get_parameter(name)) for name, each in other.named_parameters())


def test_not_in_the_background_it_is_there_when_save_returns(tmp_path):
    model, optimizer = trained()
    Checkpoints(tmp_path, "print", keep=2, background=False).save(1, model, optimizer)
    assert [path.name for path in tmp_path.glob("*")] == ["step-00000001"]


def test_a_full_disk_ends_the_training_at_the_next_save(tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    model, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, "print", keep=2)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "save_file", full)
        checkpoints.save(1, model, optimizer)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(2, model, optimizer)
    checkpoints.save(3, model, optimizer)
    checkpoints.wait()
    assert [path.name for path in tmp_path.glob("*")] == ["step-00000003"]


def _killed(folder: str) -> None:
    torch.set_num_threads(1)
    model, optimizer = trained()
    checkpoints = Checkpoints(Path(folder), "print", keep=2)
    checkpoints.save(1, model, optimizer)
    checkpoints.wait()
    write, written = pieces.save_file, []

    def dying(tensors: Any, path: Any, **options: Any) -> None:
        if written:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(write(tensors, path, **options))

    pieces.save_file = dying
    step(model, optimizer)
    checkpoints.save(2, model, optimizer)
    threading.Event().wait(60)


def test_killed_in_the_middle_of_a_save_the_one_before_is_used(tmp_path):
    process = context().Process(target=_killed, args=(str(tmp_path),))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / ".next.tmp").iterdir()] == ["model-00000.safetensors"]
    model, optimizer = trained(3)
    assert load_checkpoint(tmp_path, "print", model, optimizer).step == 1
    expected, _ = trained(1)
    assert all(torch.equal(each, expected.get_parameter(name)) for name, each in model.named_parameters())
    with Checkpoints(tmp_path, "print", keep=2) as checkpoints:
        checkpoints.save(2, model, optimizer)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["step-00000001", "step-00000002"]


def _sharded() -> tuple[Any, torch.optim.Optimizer]:
    model: Any = tiny_model("llama", tie_word_embeddings=True)
    for layer in model.model.layers:
        fully_shard(layer)
    return trained(0, fully_shard(model))


def _rank(rank: int, world: int, folder: str, saved: bool) -> None:
    """Save on `world` ranks after two steps, or read what others have saved there, rank 1 with an old list of files."""
    torch.set_num_threads(1)
    store = f"file://{folder}-{world}-{saved}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    model, optimizer = _sharded()
    if saved and rank == 1:
        remembered = Path.glob
        Path.glob = lambda path, pattern: iter(()) if pattern == "step-*" else remembered(path, pattern)  # type: ignore
    resumed = load_checkpoint(Path(folder), "print", model, optimizer)
    assert resumed.step == (2 if saved else 0)
    alone, moments = trained(2 if saved else 0)
    _assert_same(model, alone)
    with Checkpoints(Path(folder), "print", keep=1) as checkpoints:
        for number in (1, 2, 3):
            for each in ((model, optimizer), (alone, moments)):
                step(*each)
            if not saved and number < 3:
                checkpoints.save(number, model, optimizer)  # and goes on at once, collective operations and all
    _assert_same(model, alone)
    distributed.destroy_process_group()


def _assert_same(model: nn.Module, alone: nn.Module) -> None:
    for name, each in model.named_parameters():
        # Ranks average equal gradients, halves of which are exact, thirds not; a step moves a weight by about 0.1.
        torch.testing.assert_close(each.full_tensor(), alone.get_parameter(name), rtol=1e-4, atol=1e-4)  # type: ignore


@pytest.mark.slow
@pytest.mark.parametrize("worlds", [(3, 2)], ids=["3 write, 2 read"])
def test_several_processes_save_in_the_background_and_another_number_goes_on(tmp_path, worlds):
    folder = str(tmp_path / "checkpoints")
    Path(folder).mkdir()
    spawn(_rank, (worlds[0], folder, False), nprocs=worlds[0])
    state = json.loads((tmp_path / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert sorted(state["sha256"]) == [
        f"{kind}-{n:05d}.safetensors" for kind in ("model", "optimizer") for n in (0, 1, 2)
    ]
    spawn(_rank, (worlds[1], folder, True), nprocs=worlds[1])


def test_a_failing_write_of_one_process_fails_the_save_of_all(monkeypatch, tmp_path):
    """What the others report decides, not what this process wrote."""
    monkeypatch.setattr(checkpoint, "_from_all", lambda value, _group=None: [value, ({}, "no space")])
    model, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, "print", keep=2)
    checkpoints.save(1, model, optimizer)
    with pytest.raises(OSError, match="another process could not write its part of a checkpoint: no space"):
        checkpoints.wait()
    assert not list(tmp_path.glob("step-*"))
