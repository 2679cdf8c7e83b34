"""Two processes on this machine: gradients of wrapped models equal those of one process alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.forked import spawn
from support.tiny_models import random_documents, tiny_model
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from harness.data.batching import micro_batches
from harness.models.attention import packed_attention
from harness.train.loss import ResponseLoss

WORLD = 2


def _rank(rank: int, wrapper: str, store: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    model = tiny_model("llama", tie_word_embeddings=True)
    objective = ResponseLoss(model)
    documents = random_documents()
    with packed_attention(model):
        objective(micro_batches(documents, layout="packed")[0])[0].backward()
        expected = {name: parameter.grad.clone() for name, parameter in objective.named_parameters()}
        objective.zero_grad()
        _backward_in_shares(objective, wrapper, documents[rank::WORLD], max_tokens=14 if rank else 10)
    for name, parameter in objective.named_parameters():
        gradient = parameter.grad.full_tensor() if wrapper == "fully_shard" else parameter.grad
        # float32, other order of summation.
        assert (gradient - expected[name]).norm() <= 1e-6 * expected[name].norm(), name
    distributed.destroy_process_group()


def _backward_in_shares(objective: ResponseLoss, wrapper: str, documents: list, max_tokens: int) -> None:
    if wrapper == "fully_shard":
        for layer in objective.model.model.layers:
            fully_shard(layer)
        wrapped = fully_shard(objective)
    else:
        wrapped = DistributedDataParallel(objective)
    batches = micro_batches(documents, layout="packed", max_tokens=max_tokens)
    most = torch.tensor(len(batches))
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    assert int(most) == 2
    batches += [batches[-1].without_targets()] * (int(most) - len(batches))
    for place, batch in enumerate(batches):
        last = place == len(batches) - 1
        if wrapper == "fully_shard":
            wrapped.set_requires_gradient_sync(last)
        else:
            wrapped.require_backward_grad_sync = last
        loss, _ = wrapped(batch)
        (WORLD * loss).backward()  # both wrappers take the mean over ranks


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["ddp", "fully_shard"])
def test_wrapped_gradients_equal_those_of_one_process(wrapper: str, tmp_path: Path) -> None:
    """Rank 0 has two micro-batches, rank 1 one and an idle one."""
    spawn(_rank, (wrapper, str(tmp_path / "store")), nprocs=WORLD)
