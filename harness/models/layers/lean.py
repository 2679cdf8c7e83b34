"""Norms and rotary positions of Llama and its kin on a CPU, in fewer passes over memory than transformers makes.

A pass over activations that have left the cache costs a small model as much as a matrix product. Values are those of
transformers up to rounding in the last bits. B rows, T tokens of a row, H heads, E features of a head, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.attention import segment_attention

MODEL_TYPES = ("llama",)


@contextmanager
def lean_layers(model: nn.Module) -> Iterator[int]:
    """While inside, norms and attention of a Llama on a CPU compute as below; how many modules do.

    Modules whose forward was changed before (liger, compiled) stay as they are.
    """
    config: Any = model.config
    changed = []
    if config.model_type in MODEL_TYPES and next(model.parameters()).device.type == "cpu":
        changed = [module for module in model.modules() if _change(module)]
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.forward


def _change(module: Any) -> bool:
    name = type(module).__name__
    if "forward" in vars(module):
        return False
    if name.endswith("RMSNorm"):
        module.forward = partial(_norm, module)
    elif name.endswith("Attention"):
        module.forward = partial(_attention, module)
    else:
        return False
    return True


def _norm(module: Any, hidden_BTD: Tensor) -> Tensor:
    if not hidden_BTD.dtype == module.weight.dtype == torch.float32:  # rounds in between
        return type(module).forward(module, hidden_BTD)
    return RMSNorm.apply(hidden_BTD, module.weight, module.variance_epsilon)


def _attention(
    module: Any, hidden_states: Tensor, position_embeddings: Any = None, attention_mask: Any = None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    if options.get("segment_lengths") is None or options.get("past_key_values") is not None:
        return type(module).forward(module, hidden_states, position_embeddings, attention_mask, **options)
    heads = (*hidden_states.shape[:-1], -1, module.head_dim)
    projections = (module.q_proj, module.k_proj, module.v_proj)
    q_BTHE, k_BTHE, v_BTHE = (each(hidden_states).view(heads) for each in projections)
    cos_BT1E, sin_BT1E = (each.unsqueeze(2) for each in position_embeddings)
    query, key = (Rotary.apply(each, cos_BT1E, sin_BT1E).transpose(1, 2) for each in (q_BTHE, k_BTHE))
    drop = module.attention_dropout if module.training else 0.0
    options |= {"scaling": module.scaling, "dropout": drop}
    attended_BTHE, _ = segment_attention(module, query, key, v_BTHE.transpose(1, 2), attention_mask, **options)
    return module.o_proj(attended_BTHE.flatten(-2)), None


class RMSNorm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + epsilon) (Zhang & Sennrich 2019, eq. 4, with the epsilon of Llama).

    Differentiable repeatedly; the second derivative goes through the plain formula.
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        inverse_BT1 = x_BTD.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_BTD, weight_D, inverse_BT1)
        ctx.epsilon = epsilon
        return (x_BTD * inverse_BT1).mul_(weight_D)

    @staticmethod
    def backward(ctx: Any, gradient_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, weight_D, inverse_BT1 = ctx.saved_tensors
        asked = ctx.needs_input_grad[:2]  # a probe may have frozen the weights
        if torch.is_grad_enabled():
            plain_BTD = weight_D * (x_BTD * (x_BTD.square().mean(-1, keepdim=True) + ctx.epsilon).rsqrt())
            inputs = [each for each, is_asked in zip((x_BTD, weight_D), asked, strict=True) if is_asked]
            found = iter(torch.autograd.grad(plain_BTD, inputs, gradient_BTD, create_graph=True))
            return *(next(found) if is_asked else None for is_asked in asked), None
        unit_BTD = x_BTD * inverse_BT1
        of_weight_BTD = gradient_BTD * unit_BTD
        share_BT1 = (of_weight_BTD @ weight_D).unsqueeze(-1).div_(-x_BTD.shape[-1])
        of_x_BTD = (gradient_BTD * weight_D).addcmul_(unit_BTD, share_BT1).mul_(inverse_BT1)
        return of_x_BTD, of_weight_BTD.flatten(0, -2).sum(0), None


class Rotary(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, eq. 34, with the halves of a head as pairs, as in Llama); linear in x."""

    @staticmethod
    def forward(ctx: Any, x_BTHE: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BT1E, sin_BT1E)
        half = x_BTHE.shape[-1] // 2
        y_BTHE = x_BTHE * cos_BT1E
        y_BTHE[..., :half].addcmul_(x_BTHE[..., half:], sin_BT1E[..., :half], value=-1)
        y_BTHE[..., half:].addcmul_(x_BTHE[..., :half], sin_BT1E[..., half:])
        return y_BTHE

    @staticmethod
    def backward(ctx: Any, gradient_BTHE: Tensor) -> tuple[Tensor | None, ...]:
        cos_BT1E, sin_BT1E = ctx.saved_tensors
        return Rotary.apply(gradient_BTHE, cos_BT1E, -sin_BT1E), None, None
