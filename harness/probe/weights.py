"""How far training moved the weights."""

from __future__ import annotations

import math
from typing import Any

import torch


@torch.no_grad()
def weight_distance(model: Any, start: Any) -> dict[str, float]:
    """||theta - theta_0|| over all parameters, in float64, and that divided by ||theta_0||.

    Tied parameters count once. Both models have the same parameter names; an adapter's start is its initial state.
    """
    before = dict(start.named_parameters())
    moved = squares = 0.0
    for name, parameter in model.named_parameters():
        old = before[name].detach().double().cpu()
        moved += float((parameter.detach().double().cpu() - old).square().sum())
        squares += float(old.square().sum())
    distance = math.sqrt(moved)
    return {"weight_distance": distance, "relative_weight_distance": distance / math.sqrt(squares)}
