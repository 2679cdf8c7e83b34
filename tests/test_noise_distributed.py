"""The noise in two processes: FSDP2 and DDP on gloo give the gradient of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from harness.noise import PRESETS, EmbeddingNoise, Noise, input_embedding

SYMNOISE = Noise(**PRESETS["symnoise"])
DOCUMENTS, LENGTH = 4, 6


def share(rank: int, ranks: int) -> tuple[list[int], dict[str, Tensor]]:
    """Every ranks-th document, without padding, so that means of means are means."""
    ids = torch.randint(2, VOCABULARY, (DOCUMENTS, LENGTH), generator=torch.Generator().manual_seed(0))
    mine = list(range(rank, DOCUMENTS, ranks))
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


def full_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Whole gradients by parameter name, gathered from their shards."""
    found = {}
    for name, parameter in model.named_parameters():
        gradient: Any = parameter.grad
        whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
        found[name.removeprefix("module.")] = whole.clone()
    return found


def worker(rank: int, ranks: int, kind: str, folder: str) -> None:
    """One process: wrap, step, save what it saw."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    model: Any = tiny_model("llama", torch.float64)
    if kind == "fsdp2":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (ranks,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        model = nn.parallel.DistributedDataParallel(model)
    noise = noised_step(model, rank, ranks, by_identity=True)
    gradients = full_gradients(model)
    by_place = noised_step(model, rank, ranks, by_identity=False)
    torch.save({"noise": noise, "by_place": by_place, "gradients": gradients}, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp2", "ddp"])
def test_two_processes_train_as_one(kind: str, tmp_path: Path) -> None:
    spawn(worker, args=(2, kind, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    model = tiny_model("llama", torch.float64)
    noise = noised_step(model, 0, 1, by_identity=True)
    together = torch.empty_like(noise)
    together[0::2], together[1::2] = ranks[0]["noise"], ranks[1]["noise"]
    # X + e - (X - e) is rounded where e was not: 1e-12 of the norm.
    torch.testing.assert_close(together, noise, rtol=1e-10, atol=1e-12)
    gradients = full_gradients(model)
    for rank in ranks:
        assert rank["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            # Each rank's loss is rounded to float32 by transformers.
            torch.testing.assert_close(rank["gradients"][name], gradient, rtol=1e-5, atol=1e-7)
    # Without identities the rank is in the key: no document of one rank shares its noise with one of the other.
    fingerprints = torch.cat([rank["by_place"][:, 1] for rank in ranks])
    assert len(fingerprints.unique()) == DOCUMENTS
