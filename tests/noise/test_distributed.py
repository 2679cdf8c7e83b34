"""Noise and regularisers in two processes: FSDP2 and DDP on gloo give the gradient of one process with the whole batch.

One pair of processes does everything: what costs time is that each imports torch and transformers.
"""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from support.forked import spawn
from support.tiny_models import VOCABULARY, random_documents, tiny_model
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from harness.config import NoiseConfig
from harness.data.batching import Batch, micro_batches
from harness.models.attention import packed_attention
from harness.noise import PRESETS, EmbeddingNoise, Noise, input_embedding
from harness.train.loss import ResponseLoss
from harness.train.methods import MicroBatch, method_of
from harness.train.noise import TrainingNoise

SYMNOISE = Noise(**PRESETS["symnoise"])
ROWS, LENGTH, RANKS = 4, 6, 2
WRAPPERS = ("ddp", "fsdp2")
METHODS: dict[str, dict[str, Any]] = {
    "noise": {"distribution": "rademacher", "pair": "antithetic"},
    "r3f": {"r3f": {"weight": 0.7}},
    "rdrop": {"rdrop": {"weight": 0.7}},
    "freelb": {"freelb": {"steps": 2, "step_size": 0.9}},
    "vat": {"distribution": "gaussian", "vat": {"weight": 0.7, "steps": 1, "probe": 0.1}},
    "smart": {"distribution": "gaussian", "smart": {"weight": 0.7, "steps": 1, "step_size": 0.4, "start": 0.5}},
    "sam": {"distribution": "none", "sam": {"rho": 0.3}},
}
Gradients = dict[str, Tensor]


def share(rank: int, ranks: int) -> tuple[list[int], dict[str, Tensor]]:
    """Every ranks-th document, without padding, so that means of means are means."""
    ids = torch.randint(2, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    mine = list(range(rank, ROWS, ranks))
    return mine, {"input_ids": ids[mine], "labels": ids[mine], "attention_mask": torch.ones_like(ids[mine])}


def noised_step(model: nn.Module, rank: int, ranks: int, by_identity: bool) -> Tensor:
    """One forward and backward pass; the norms and a fingerprint of the noise of each document, (n, 2)."""
    documents, batch = share(rank, ranks)
    seen: list[Tensor] = []
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        table = input_embedding(model)
        handle = table.register_forward_hook(lambda _m, _a, output: seen.append(output.detach()))
        injector.at(step=3, documents=documents if by_identity else None)
        model(**batch, use_cache=False).loss.backward()
        handle.remove()
    plus, minus = seen[0].chunk(2)
    e = (plus - minus) / 2
    weights = torch.randn(e.shape[1:], generator=torch.Generator().manual_seed(1), dtype=e.dtype)
    return torch.stack([e.flatten(1).norm(dim=1), (e * weights).flatten(1).sum(1)], dim=1)


def method_step(objective: nn.Module, model: nn.Module, name: str, accelerator: Accelerator) -> Tensor:
    """One step of a regulariser over two micro-batches a rank; (objective, penalty) of all ranks."""
    config = NoiseConfig(name=name, method=name, **METHODS[name])
    noise = Noise(config.distribution, 0.8, pair="independent" if name == "rdrop" else config.pair, rate=config.rate)
    documents, rank, ranks = random_documents(), accelerator.process_index, accelerator.num_processes
    batches: list[Batch] = micro_batches(documents[rank::ranks], layout="packed", max_rows=1)
    share_of_target = 1 / sum(int((each.labels[1:] != -100).sum()) for each in documents)
    method = method_of(config, accelerator, objective)
    source = TrainingNoise(noise, 3, input_embedding(model), stream=method.noise_stream)

    def accumulate() -> Tensor:
        losses = torch.zeros(2)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(objective):
                losses += method.backward(MicroBatch(batch, source.of(batch, step=7), share_of_target, last))
        return losses

    with packed_attention(model):  # type: ignore[arg-type]
        losses = method.step(accumulate)
    reduced: Tensor = accelerator.reduce(losses)
    return reduced


def wrapped(module: nn.Module, layers: nn.ModuleList, wrapper: str) -> nn.Module:
    if wrapper == "ddp":
        return nn.parallel.DistributedDataParallel(module)
    for layer in layers:
        fully_shard(layer)
    return fully_shard(module)


def full_gradients(module: nn.Module) -> Gradients:
    """Whole gradients by parameter name, gathered from their shards."""
    found = {}
    for name, parameter in module.named_parameters():
        gradient: Any = parameter.grad
        whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
        found[name.removeprefix("module.")] = whole.clone()
    return found


def worker(rank: int, port: int, folder: str) -> None:
    """One process: for each wrapper, a plain noised step and a step of each method; saves what it saw."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()})
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == RANKS
    saw: dict[str, Any] = {}
    for wrapper in WRAPPERS:
        inner: Any = tiny_model("llama", torch.float64)
        model = wrapped(inner, inner.model.layers, wrapper)
        noise = noised_step(model, rank, RANKS, by_identity=True)
        gradients = full_gradients(model)
        by_place = noised_step(model, rank, RANKS, by_identity=False)
        saw[wrapper] = {"added": noise, "by_place": by_place, "gradients": gradients}
        for name in METHODS:
            inner = tiny_model("llama")
            objective = wrapped(ResponseLoss(inner), inner.model.layers, wrapper)
            saw[wrapper][name] = method_step(objective, inner, name, accelerator), full_gradients(objective)
    torch.save(saw, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(worker, (port, str(folder)), nprocs=RANKS)
    return [torch.load(Path(folder) / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_train_as_one(wrapper: str, ranks: list[dict[str, Any]]) -> None:
    model = tiny_model("llama", torch.float64)
    noise = noised_step(model, 0, 1, by_identity=True)
    together = torch.empty_like(noise)
    together[0::2], together[1::2] = (rank[wrapper]["added"] for rank in ranks)
    # X + e - (X - e) is rounded where e was not: 1e-12 of the norm.
    torch.testing.assert_close(together, noise, rtol=1e-10, atol=1e-12)
    gradients = full_gradients(model)
    for rank in ranks:
        assert rank[wrapper]["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            # Each rank's loss is rounded to float32 by transformers.
            torch.testing.assert_close(rank[wrapper]["gradients"][name], gradient, rtol=1e-5, atol=1e-7)
    # Without identities the rank is in the key: no document of one rank shares its noise with one of the other.
    fingerprints = torch.cat([rank[wrapper]["by_place"][:, 1] for rank in ranks])
    assert len(fingerprints.unique()) == ROWS


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_gradient_of_one_process(name: str, ranks: list[dict[str, Any]]) -> None:
    model = tiny_model("llama")
    objective = ResponseLoss(model)
    losses = method_step(objective, model, name, Accelerator(cpu=True))
    gradients = full_gradients(objective)
    for rank in ranks:
        for wrapper in WRAPPERS:
            found, theirs = rank[wrapper][name]
            assert found.tolist() == pytest.approx(losses.tolist(), rel=1e-5)
            for key, gradient in gradients.items():
                # float32, other order of summation; ten times that where SAM normalises its first gradient.
                assert (theirs[key] - gradient).norm() <= 1e-5 * gradient.norm(), (wrapper, key)
