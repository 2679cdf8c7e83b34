"""Rows of one length: filled with padding, they train as before, and layers compile once."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.commands import SMALL
from support.runs import folder_of
from support.tiny_models import random_documents, tiny_model
from torch._dynamo.testing import CompileCounterWithBackend

from harness.data.batching import micro_batches
from harness.models.attention import packed_attention
from harness.models.layers.compiled import compiled_layers
from harness.models.load import checkpoint_layers
from harness.noise import Noise
from harness.pipeline.runner import execute
from harness.train.loss import ResponseLoss
from harness.train.noise import TrainingNoise

COMPILE = ("train.compile=true", "train.row_multiple=2048")
LENGTHS = (9, 5, 7, 2, 11, 3)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(("multiple", "limit"), [(8, 16), (16, 16), (5, 12)])
def test_rows_have_a_multiple_within_the_limit_and_hold_the_same(layout, multiple, limit):
    documents = random_documents(LENGTHS)
    batches = micro_batches(documents, layout=layout, max_tokens=limit, multiple=multiple)
    assert {batch.input_ids.shape[1] % multiple for batch in batches} == {0}
    whole = [batch for batch in batches if len(batch.documents) > 1]
    assert all(batch.input_ids.numel() <= limit for batch in whole)
    held = sorted(number for batch in batches for number in batch.documents)
    assert held == sorted(each.index for each in documents)
    assert sum(int(batch.attention_mask.sum()) for batch in batches) == sum(LENGTHS)
    for batch in batches:
        padding = batch.attention_mask == 0
        assert (batch.labels[padding] == -100).all()
        assert (batch.targets[padding] == -100).all()
        if layout == "packed":
            assert {sum(lengths) for lengths in batch.segments} == {batch.input_ids.shape[1]}
            assert [len(lengths) for lengths in batch.segment_lengths] == [len(batch.documents)]


def test_rows_as_long_as_the_limit_are_all_of_one_length():
    batches = micro_batches(random_documents(LENGTHS), layout="packed", max_tokens=16, multiple=16)
    assert len(batches) > 1
    assert {batch.input_ids.shape for batch in batches} == {(1, 16)}


@pytest.mark.parametrize("name", ["llama", "opt", "mistral"])
@pytest.mark.parametrize("noise", [Noise("none"), Noise("uniform", pair="antithetic"), Noise("gaussian", length="row")])
def test_padding_changes_neither_loss_nor_gradients(name, noise):
    model = tiny_model(name, torch.float64)
    objective = ResponseLoss(model)
    found = []
    for multiple in (1, 32):
        (batch,) = micro_batches(random_documents((9, 5, 7)), layout="packed", multiple=multiple)
        source = TrainingNoise(noise, 3, model.get_input_embeddings())
        perturb = source.of(batch, 0).perturbation(range(noise.halves))
        model.zero_grad()
        with packed_attention(model):
            loss, count = objective(batch.repeat(noise.halves), perturb)
            loss.backward()
        gradients = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
        found.append((count.item(), loss.detach(), gradients))
    (count, loss, gradients), (filled_count, filled_loss, filled_gradients) = found
    assert count == filled_count
    # float64; products of other shapes add up in another order.
    torch.testing.assert_close(filled_loss, loss, rtol=1e-12, atol=0)
    assert (filled_gradients - gradients).norm() <= 1e-12 * gradients.norm()


def test_a_training_with_filled_rows_is_the_same_run_with_the_same_curve(compose, tmp_path):
    runs = []
    for number, more in enumerate(((), ("train.row_multiple=512", "train.micro_batch_tokens=512"))):
        plain = ("train.micro_batch_tokens=512",)
        config = compose(
            *SMALL, "noise=symnoise", "stages=[train]", f"output_dir={tmp_path / str(number)}", *(more or plain)
        )
        execute(config)
        runs.append(config)
    assert folder_of(runs[0]).path.name == folder_of(runs[1]).path.name
    ours, theirs = (folder_of(config).metrics() for config in runs)
    for key in ("train/loss", "train/grad_norm"):
        assert [row[key] for row in ours] == pytest.approx([row[key] for row in theirs], rel=1e-5)
    for key in ("train/tokens", "train/rows"):
        assert [row[key] for row in ours] == [row[key] for row in theirs]


def passes(model, objective, multiple: int) -> list[torch.Tensor]:
    """Gradients of three micro-batches with other documents each."""
    found = []
    for lengths in ((9, 5, 7), (11, 3), (4, 4, 4, 4)):
        (batch,) = micro_batches(random_documents(lengths), layout="packed", multiple=multiple)
        model.zero_grad()
        objective(batch)[0].backward()
        found.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    return found


# Dynamo asks for .grad of what it traces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_compile_once_for_rows_of_one_length(checkpointing):
    """One graph of all norms and one of all feed-forward layers; rows of any length need two more each time."""
    model = tiny_model("llama", torch.float64)
    if checkpointing:
        checkpoint_layers(model)
    objective = ResponseLoss(model)
    counts = {}
    with packed_attention(model):
        expected = passes(model, objective, 32)
        for multiple in (32, 1):
            torch._dynamo.reset()
            counter = CompileCounterWithBackend("aot_eager")
            with compiled_layers(model, counter):
                found = passes(model, objective, multiple)
            counts[multiple] = counter.frame_count
            for ours, theirs in itertools.zip_longest(found, expected):
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
        again = passes(model, objective, 32)
    assert counts == {32: 2, 1: 6}
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, expected, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own code
def test_a_run_with_compiled_layers_has_the_curve_of_one_without(compose, tmp_path):
    """By torch's own compiler for this processor."""
    losses = []
    sharded = ("train.devices=2", "train.sharding=fsdp")
    for number, more in enumerate(((), ("train.compile=true",), ("train.compile=true", *sharded))):
        rows = ("train.row_multiple=512", "train.micro_batch_tokens=512", "train.max_steps=3")
        config = compose(
            *SMALL, *rows, "noise=symnoise", "stages=[train]", f"output_dir={tmp_path / str(number)}", *more
        )
        execute(config)
        losses.append([row["train/loss"] for row in folder_of(config).metrics()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.row_multiple=0",), "train.row_multiple"),
        (("train.row_multiple=64", "noise=neftune", "noise.length=padded"), "train.row_multiple: noise.length=padded"),
        ((*COMPILE, "model.gradient_checkpointing=selective"), "sees no operation of train.compile"),
        ((*COMPILE, "probe.every=2"), "differentiates twice"),
        (("train.compile=true",), r"give train.row_multiple 2048 \(micro_batch_tokens\), not 1"),
    ],
)
def test_what_cannot_go_together_is_refused(compose, overrides, message):
    with pytest.raises(ValueError, match=message):
        compose(*SMALL, *overrides)
