"""In a micro-batch the host reads nothing back from the GPU: whatever it has to know it still has in main memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.tiny_models import random_documents, tiny_model

from harness.data.batching import Batch, micro_batches
from harness.models.attention import packed_attention
from harness.noise import Noise
from harness.train.loss import ResponseLoss, chunk_of_logits
from harness.train.noise import TrainingNoise

# What makes the host wait for a GPU: its result, or the size of its result, has to be known.
WAITING = {
    "cpu", "item", "tolist", "numpy", "nonzero", "unique", "bincount", "equal", "masked_select",
    "__bool__", "__int__", "__float__", "__index__", "repeat_interleave", "is_nonzero",
}  # fmt: skip


class OnGPU(torch.Tensor):
    """A tensor that stands for one on a GPU, as does all that is computed from it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        by_mask = name == "__getitem__" and isinstance(args[1], torch.Tensor) and args[1].dtype == torch.bool
        waits = name in WAITING or by_mask
        assert not waits, f"the host waits: {name}"
        return super().__torch_function__(function, types, args, kwargs or {})


def moved(batch: Batch) -> Batch:
    """The batch as `Batch.to` leaves it on a GPU."""
    on_gpu = {name: value.as_subclass(OnGPU) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **on_gpu, host=batch)


@pytest.fixture
def batch():
    (found,) = micro_batches(random_documents((9, 5, 7, 4)), layout="packed")
    return found


def test_a_read_of_the_stand_in_is_noticed(batch):
    for reading in (lambda t: t.cpu(), lambda t: t.tolist(), lambda t: bool(t.sum()), lambda t: t[t > 0]):
        with pytest.raises(AssertionError, match="the host waits"):
            reading(moved(batch).input_ids * 2)


NOISES = [
    Noise(distribution="rademacher", pair="antithetic", alpha=5.0),
    Noise(distribution="uniform", alpha=5.0, special_tokens=False),
    Noise(distribution="gaussian", pair="independent", where="response", alpha=5.0),
]


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: f"{noise.distribution}-{noise.pair}")
@pytest.mark.parametrize("per_document", [False, True])
def test_a_micro_batch_has_the_host_wait_for_nothing(batch, noise, per_document):
    model = tiny_model("llama").train()
    objective = ResponseLoss(model)
    source = TrainingNoise(noise, 0, model.get_input_embeddings(), torch.tensor([1, 2]))
    halves = tuple(range(noise.halves))
    losses = []
    for each in (batch, moved(batch)):
        perturb = source.of(each, 3).perturbation(halves)
        with packed_attention(model):
            loss, count = objective(each.repeat(noise.halves), perturb=perturb, per_document=per_document)
        loss.sum().backward()
        losses.append(loss.detach().as_subclass(torch.Tensor))
        assert count.as_subclass(torch.Tensor).sum() == noise.halves * batch.n_targets
    assert torch.equal(*losses)


def test_places_of_targets_are_kept_through_everything_that_makes_a_batch(batch):
    def found(each: Batch) -> torch.Tensor:
        return (each.targets.flatten() != -100).nonzero().squeeze(1)

    for each in (batch, batch.repeat(2), batch.without_targets(), batch.without_targets().repeat(3), batch.to("cpu")):
        assert torch.equal(each.target_places, found(each))
        assert each.n_targets == len(each.target_places)
    elsewhere = replace(batch, host=None).to("cpu").repeat(2)
    assert elsewhere.host is not None
    assert torch.equal(elsewhere.host.target_places, elsewhere.target_places)


def test_a_drawn_perturbation_is_where_the_batch_is(batch):
    """With cpu_offload the weights stay in main memory and the embeddings come to be on the GPU."""
    weight = torch.zeros(1000, 8)
    source = TrainingNoise(Noise(distribution="gaussian", alpha=1.0), 0, SimpleNamespace(weight=weight))  # type: ignore[arg-type]
    at_meta = source.of(batch.to("meta"), 0)

    def unchanged(zeros_HBTD: torch.Tensor, halves: object) -> torch.Tensor:
        assert zeros_HBTD.device.type == "meta", halves
        return zeros_HBTD

    at_meta._apply = unchanged  # type: ignore[method-assign]
    assert at_meta.draw().device.type == "meta"


def test_a_gpus_chunks_of_logits_have_rows_enough_for_large_vocabularies() -> None:
    """Each adds a whole (V, D) to the head's gradient: at 131 rows of V = 128,256 that took a quarter of a step."""
    assert chunk_of_logits("cuda") // 128_256 >= 512
    assert 4 * chunk_of_logits("cuda") <= 2**28  # bytes of float32: 256 MB
