"""How far training moved the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def weight_distance(model: Any, start: Any) -> dict[str, float]:
    """||theta - theta_0|| over all parameters, in float64, and that divided by ||theta_0||.

    Tied parameters count once. Both models have the same parameter names; beside a frozen base, adapters that are
    not merged count by the change of weights that they stand for.
    """
    before = {name: parameter.detach().double().cpu() for name, parameter in start.named_parameters()}
    squares = sum(float(old.square().sum()) for old in before.values())
    if hasattr(model, "peft_config"):
        moved = sum(float(delta.square().sum()) for delta in _adapter_changes(model))
    else:
        after = model.named_parameters()
        moved = sum(float((new.detach().double().cpu() - before[name]).square().sum()) for name, new in after)
    distance = math.sqrt(moved)
    return {"weight_distance": distance, "relative_weight_distance": distance / math.sqrt(squares)}


def _adapter_changes(model: Any) -> Iterator[Tensor]:
    """(alpha / rank) B A of every adapted layer."""
    for module in model.modules():
        if hasattr(module, "get_delta_weight"):
            for adapter in module.active_adapters:
                yield module.get_delta_weight(adapter).double().cpu()
