"""A training step: where the host waits, what noise and loss cost, layers per second, shards on one rank."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed

from benchmarks.gpu.setting import Finding, Setting
from harness.data.batching import Batch
from harness.models.attention import packed_attention
from harness.models.layers.compiled import compiled_layers
from harness.models.layers.liger import liger_kernels
from harness.models.layers.recompute import checkpoint_layers
from harness.noise import Noise, input_embedding, noise_generators
from harness.noise.perturbation import perturb
from harness.system.packages import is_installed
from harness.train import loss as loss_module
from harness.train import parallel
from harness.train.loss import ResponseLoss, response_loss
from harness.train.noise import TrainingNoise

SYMNOISE = Noise(distribution="rademacher", pair="antithetic", alpha=5.0)


def host_waits(setting: Setting) -> Iterator[Finding]:
    """Lines of the harness and of others at which one micro-batch makes the host wait for the GPU; target: none."""
    model = setting.llama(2, hidden=1024, heads=8).train()
    objective, source = ResponseLoss(model), TrainingNoise(SYMNOISE, 0, input_embedding(model))
    with warnings.catch_warnings(record=True) as seen, packed_attention(model):
        warnings.simplefilter("always")
        for step in range(2):
            batch = setting.packed([100] * 16)
            if not setting.cpu:
                torch.cuda.set_sync_debug_mode("warn" if step else "default")
            objective(batch.repeat(2), perturb=source.of(batch, step).perturbation((0, 1)))[0].backward()
            if not setting.cpu:
                torch.cuda.set_sync_debug_mode("default")
    where = Counter(
        f"{each.filename.split('/harness/')[-1].split('site-packages/')[-1]}:{each.lineno}"
        for each in seen
        if "synchronizing" in str(each.message)
    )
    for place, count in where.most_common():
        yield Finding(place, f"{count} times", False)
    if not where:
        yield Finding("none", "" if not setting.cpu else "(a CPU knows no waits)", True)


def noise_cost(setting: Setting) -> Iterator[Finding]:
    """Of 128 documents; target: under 3 ms, 2% of a step of 150 ms."""
    width, documents = setting.size(4096, 64), 128
    embeddings = torch.randn(1, 120 * documents, width, device=setting.device)
    ids = torch.arange(documents).repeat_interleave(120)[None]
    mask = torch.ones_like(ids)
    for distribution in ("rademacher", "uniform"):
        noise = Noise(distribution=distribution, pair="antithetic", alpha=5.0)

        def noised(noise: Noise = noise) -> object:
            return perturb(
                embeddings, mask, noise, noise_generators(0, 1, range(documents), setting.device), document_ids=ids
            )

        taken = setting.milliseconds(noised, 5)
        yield Finding(distribution, f"{taken:.1f} ms", None if setting.cpu else taken < 3)


def loss_chunks(setting: Setting) -> Iterator[Finding]:
    """The loss by logits formed at a time; take the next larger size if it is more than 10% faster."""
    sizes = ((32_000, 4096, 4096), (128_256, 2048, 4096), (151_936, 3584, 4096))
    for vocabulary, width, targets in [(512, 64, 256)] if setting.cpu else sizes:
        head = torch.nn.Linear(width, vocabulary, bias=False, device=setting.device)
        hidden = torch.randn(1, targets, width, device=setting.device, requires_grad=True)
        ids = torch.randint(0, vocabulary, (1, targets), device=setting.device)
        places = torch.arange(targets, device=setting.device)

        def both(head: Any = head, hidden: Any = hidden, ids: Any = ids, places: Any = places) -> None:
            with torch.autocast(setting.device.type, torch.bfloat16):
                loss, _ = response_loss(hidden, ids, head, places_N=places)
            loss.backward()

        before = dict(loss_module._CHUNK_LOGITS)
        for power in (24, 26, 28):
            loss_module._CHUNK_LOGITS[setting.device.type] = 2**power
            taken = setting.milliseconds(both, 5)
            now = ", as it is" if 2**power == before[setting.device.type] else ""
            yield Finding(f"vocabulary {vocabulary}, width {width}, 2^{power} logits{now}", f"{taken:.1f} ms")
        loss_module._CHUNK_LOGITS.update(before)


def layer_rate(setting: Setting) -> Iterator[Finding]:
    """7B's layers under autocast: share of 989 TFLOP/s. torchtitan reaches 33% eager and 39% compiled (8B, FSDP)."""
    layers, tokens = 4, setting.size(4096, 256)
    ways = ["eager", "checkpointing selective", "checkpointing full"]
    if not setting.cpu:
        ways += ["compiled layers", *(["liger"] if is_installed("liger_kernel") else [])]
    for name in ways:
        model = setting.llama(layers).train()
        objective, batch = ResponseLoss(model), setting.packed([128] * (tokens // 128))
        if name.startswith("checkpointing"):
            checkpoint_layers(model, selective=name.endswith("selective"))
        around: Any = {"compiled layers": compiled_layers, "liger": liger_kernels}.get(name, nullcontext)
        used = sum(each.numel() for each in model.model.layers.parameters()) + model.lm_head.weight.numel()

        def both(objective: ResponseLoss = objective, batch: Batch = batch) -> None:
            with torch.autocast(setting.device.type, torch.bfloat16):
                loss, _ = objective(batch)
            (loss / tokens).backward()

        if not setting.cpu:
            torch.cuda.reset_peak_memory_stats()
        with packed_attention(model), around(model):
            taken = setting.milliseconds(both, 5)
        share = 6 * used * tokens / taken / 1e9 / 989
        peak = "" if setting.cpu else f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
        yield Finding(name, f"{taken:.0f} ms, {share:.0%} of 989 TFLOP/s{peak}")
        del model, objective, both
        setting.free()


def sharding(setting: Setting) -> Iterator[Finding]:
    """One rank, gloo and NCCL side by side: a step of FSDP2 in bf16, with and without offload; weights whole."""
    with _one_rank(setting):
        for offload in (False, True):
            model = setting.llama(2).cpu().train()
            sharded = _sharded(setting, model, offload)
            optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
            with packed_attention(model):
                loss, count = sharded(setting.packed([100, 50, 30]))
                (loss / 180).backward()
            norm = parallel.clip_gradients(model.parameters(), 1.0)
            optimizer.step()
            weights = parallel.full_weights(model) or {}
            whole = all(weights[name].shape == each.shape for name, each in model.state_dict().items())
            finite = all(bool(torch.isfinite(each).all()) for each in weights.values())
            told = f"loss {float(loss.detach() / count):.3f}, norm {norm:.3f}, {len(weights)} weights"
            yield Finding(f"offload {offload}", told, whole and finite)


def perturbed_offload(setting: Setting) -> Iterator[Finding]:
    """FreeLB, SMART and VAT start from a drawn perturbation, which with offload is not where the weights are."""
    with _one_rank(setting):
        model = setting.llama(2).cpu().train()
        sharded, batch = _sharded(setting, model, True), setting.packed([30, 20])
        drawn = TrainingNoise(Noise(alpha=1.0), 0, input_embedding(model)).of(batch, 0)
        delta = drawn.draw().requires_grad_()
        with packed_attention(model):
            sharded(batch, perturb=drawn.adding(delta))[0].backward()
        good = delta.grad is not None and delta.device.type == setting.device.type
        yield Finding("gradient of the perturbation", f"on {delta.device}", good)


@contextmanager
def _one_rank(setting: Setting) -> Iterator[None]:
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    backend = "gloo" if setting.cpu else "cpu:gloo,cuda:nccl"
    parallel._mesh.cache_clear()
    with tempfile.TemporaryDirectory() as folder:
        store = distributed.FileStore(f"{folder}/meet", 1)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, rank=0, world_size=1, store=store)
        try:
            yield
        finally:
            distributed.destroy_process_group()
            parallel._mesh.cache_clear()


def _sharded(setting: Setting, model: Any, offload: bool) -> torch.nn.Module:
    settings: Any = SimpleNamespace(precision="bf16", sharding="fsdp", cpu_offload=offload)
    return parallel._shard(ResponseLoss(model), setting.device, settings)
