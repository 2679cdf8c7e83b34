"""How far training moved the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_CHUNK = 2**20  # numbers in float64 at a time: 8 MB


@torch.no_grad()
def weight_distance(model: Any, start: Any) -> dict[str, float]:
    """||theta - theta_0|| over all parameters, summed in float64, and that divided by ||theta_0||.

    Tied parameters count once. Both models have the same parameter names; unmerged adapters on a frozen base count as
    the change of weights that they represent. Parameters are compared piece by piece on the device of the trained
    model, which takes only a few megabytes of memory (for adapters, one layer's change).
    """
    before = dict(start.named_parameters())
    squares = sum(_square(old) for old in before.values())
    if hasattr(model, "peft_config"):
        moved = sum(_square(delta) for delta in _adapter_changes(model))
    else:
        moved = sum(_square(new, before[name]) for name, new in model.named_parameters())
    distance = math.sqrt(moved)
    return {"weight_distance": distance, "relative_weight_distance": distance / math.sqrt(squares)}


def _square(new: Tensor, old: Tensor | None = None) -> float:
    """||new - old||^2, or ||new||^2."""
    device = torch.device("cpu") if new.device.type == "mps" else new.device  # Apple's GPUs have no float64
    total = torch.zeros((), dtype=torch.float64, device=device)
    flat = new.detach().reshape(-1)
    other = None if old is None else old.detach().reshape(-1)
    for begin in range(0, flat.numel(), _CHUNK):
        piece = flat[begin : begin + _CHUNK].to(device).double()
        if other is not None:
            piece -= other[begin : begin + _CHUNK].to(device).double()
        total += piece.square_().sum()
    return float(total)


def _adapter_changes(model: Any) -> Iterator[Tensor]:
    """(alpha / rank) B A of every adapted layer."""
    for module in model.modules():
        if hasattr(module, "get_delta_weight"):
            for adapter in module.active_adapters:
                yield module.get_delta_weight(adapter)
