"""Training on several processes: each has a whole copy of the model (DDP) or a shard of it (FSDP2).

The result does not depend on the number of processes: documents are distributed with their keys, so noise and pairs
stay with the document, and sums over the effective batch are the same up to the order of summation.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from harness.data.batching import IGNORE_INDEX, Batch, Document, Layout, micro_batches
from harness.models.layers.compiled import decoder_layers
from harness.models.place import supports_bfloat16

if TYPE_CHECKING:  # nothing else here needs the settings' schema: benchmarks/gpu runs without it
    from pathlib import Path

    from harness.config import TrainConfig
    from harness.train.loss import ResponseLoss


def world_size() -> int:
    """Number of processes of this training, from torchrun's environment variable."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def accelerator_for(settings: TrainConfig) -> Accelerator:
    """Device, rank and autocast of this process; a single process uses the first GPU or the CPU."""
    cpu = not torch.cuda.is_available() and world_size() > 1
    AcceleratorState._reset_state()  # else the precision of the process's first run would apply to all
    return Accelerator(cpu=cpu, mixed_precision="bf16" if uses_bfloat16(settings) else "no")


def uses_bfloat16(settings: TrainConfig) -> bool:
    """Whether this process trains under autocast to bfloat16; "auto": if its GPU supports it."""
    return settings.precision == "bf16" or (settings.precision == "auto" and supports_bfloat16())


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside the block, allow or forbid TF32 for float32 products on a GPU; no effect on a CPU."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def await_turn(settings: TrainConfig) -> None:
    """Wait for this process's turn to load a model that will be sharded: the processes of a node take turns.

    So main memory holds one whole model instead of one per GPU. `distribute` ends the turn.
    """
    if not takes_shards(settings):
        return
    _mesh()  # created by all at once
    for _ in range(_local_rank()):
        torch.distributed.barrier()


def _end_turn(settings: TrainConfig) -> None:
    for _ in range(int(os.environ["LOCAL_WORLD_SIZE"]) - _local_rank() if takes_shards(settings) else 0):
        torch.distributed.barrier()


@cache
def _mesh() -> DeviceMesh:
    """All processes in a row."""
    return init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world_size(),))


def takes_shards(settings: TrainConfig) -> bool:
    """Whether this process will hold a shard of the model."""
    return world_size() > 1 and settings.sharding == "fsdp"


def _local_rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def distribute(
    objective: ResponseLoss, accelerator: Accelerator, settings: TrainConfig, files: Sequence[Path] | None = None
) -> nn.Module:
    """Copy or shard the objective over the processes, before the optimiser is created from its parameters.

    Args:
        files: of the weights, of which each process reads its rows (`harness.models.shards`); None: they are there.

    Sharding is torch's own `fully_shard`: Accelerate's FSDP2 runs on GPUs only (on a CPU it silently falls back
    to DDP) and refuses tied embeddings, and what is tested on the CPU should be what runs on the GPUs.
    """
    if accelerator.num_processes == 1 or settings.sharding == "ddp":
        wrapped: nn.Module = accelerator.prepare(objective)
        return wrapped
    sharded = _shard(objective, accelerator.device, settings, files)
    if files is None:
        _end_turn(settings)
    return sharded


def undistribute(objective: nn.Module) -> None:
    """Remove the forward function that `distribute` installed on the objective for 16 bits.

    It forms a reference cycle with the objective: the model of a finished run would stay on its GPU until garbage
    collection, and the next run of a sweep would find the GPU full.
    """
    for name in ("forward", "_original_forward"):
        vars(objective).pop(name, None)


def _shard(
    objective: ResponseLoss, device: torch.device, settings: TrainConfig, files: Sequence[Path] | None = None
) -> nn.Module:
    """FSDP2 (ZeRO-3), each decoder layer on its own, the rest (embedding, norm, head) as the root.

    In bf16, layers are gathered in bf16 and gradients reduced in float32; autocast computes as on one device.
    """
    offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if settings.cpu_offload else OffloadPolicy()
    bf16 = uses_bfloat16(settings)
    common: dict[str, Any] = {"mesh": _mesh(), "offload_policy": offload}
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in decoder_layers(objective, "train.sharding=fsdp"):
        fully_shard(layer, **common, mp_policy=policy if bf16 else MixedPrecisionPolicy())
    fully_shard(objective, **common)
    home = torch.device("cpu") if settings.cpu_offload else device
    if files is not None:
        from harness.models.shards.bare import materialise

        materialise(objective, objective.model, files, home)
    elif not settings.cpu_offload:
        objective.to(device)
    if bf16:
        forward = torch.autocast(device.type, torch.bfloat16)(objective.forward)
        objective.forward = forward  # type: ignore[method-assign]
    return objective


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip the gradients to a total norm of max_norm; return the norm before clipping, over all shards."""
    with_gradient = [each for each in parameters if each.grad is not None]
    total = total_norm([each.grad for each in with_gradient if each.grad is not None])
    torch.nn.utils.clip_grads_with_norm_(with_gradient, max_norm, total)
    return float(total)


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """L2 norm of all tensors together, over all shards."""
    total = torch.nn.utils.get_total_norm(tensors)
    whole: Tensor = total.full_tensor() if hasattr(total, "full_tensor") else total
    return whole


@torch.no_grad()
def all_finite(model: nn.Module) -> bool:
    """Whether every trained weight is finite, on all processes."""
    bad = torch.zeros((), device=PartialState().device)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        local: Any = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        bad += (~torch.isfinite(local)).any().to(bad.device)
    return not bool(reduce(bad))


def full_weights(model: nn.Module, trained_only: bool = False) -> dict[str, Tensor] | None:
    """Whole weights of a sharded model, on the CPU of the first process; None on others. All must call it."""
    if not any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    weights: Any = get_model_state_dict(model, options=options)
    return weights if is_first() else None


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


@dataclass(frozen=True)
class Share:
    """One process's share of an effective batch.

    Attributes:
        batches: its micro-batches. Equally many on each process, because sharded models need the same number of
            passes: shorter lists are filled up with passes without targets.
        micro_batches: number in the effective batch, over all processes, without fillers.
        targets: response tokens of the effective batch, over all processes.
    """

    batches: list[Batch]
    micro_batches: int
    targets: int


def share_of(
    documents: Sequence[Document], rank: int, ranks: int, layout: Layout, max_tokens: int, multiple: int = 1
) -> Share:
    """This process's micro-batches of an effective batch; every process computes the same division."""
    shares = [
        micro_batches(each, layout=layout, max_tokens=max_tokens, multiple=multiple) if each else []
        for each in deal(documents, ranks)
    ]
    mine, most = shares[rank], max(map(len, shares))
    filler = (mine or shares[0])[-1].without_targets()
    targets = sum(int((document.labels[1:] != IGNORE_INDEX).sum()) for document in documents)
    return Share(mine + [filler] * (most - len(mine)), sum(map(len, shares)), targets)


def deal(documents: Sequence[Document], ranks: int) -> list[list[Document]]:
    """Documents by process, with about equal tokens: the longest first, each to the process with the fewest so far."""
    shares: list[list[Document]] = [[] for _ in range(ranks)]
    if ranks == 1:
        return [list(documents)]
    loads = [(0, rank) for rank in range(ranks)]
    for document in sorted(documents, key=len, reverse=True):
        tokens, rank = heapq.heappop(loads)
        shares[rank].append(document)
        heapq.heappush(loads, (tokens + len(document), rank))
    return shares
