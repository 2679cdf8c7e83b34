"""Activation checkpointing: whole layers computed again in the backward pass, or what is cheap of them.

The selective kind keeps what matrix products and attention give, nearly all of a layer's arithmetic; norms,
activations, rotary embeddings and sums, most of its memory and little of its time, are computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

# Operations of torch, of its kernels for documents (varlen_attn), of flash-attn and of oneDNN (harness.models.onednn).
_DEAR = frozenset(
    {
        *("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"),
        *("aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu"),
        *("aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention"),
        *("torch_attn::_varlen_attn", "flash_attn::_flash_attn_varlen_forward", "flex_attention"),
    }
)


def checkpoint_layers(model: PreTrainedModel, reentrant: bool = False, selective: bool = False) -> None:
    """Have each layer's activations recomputed in the backward pass, under the name that this transformers has for it.

    Releases up to 5.17 know it as gradient_checkpointing_enable alone; later ones warn of that name.

    Args:
        reentrant: torch's older way.
        selective: keep what is dear to compute.
    """
    enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    options: dict[str, Any] = {"use_reentrant": reentrant}
    if selective:
        options["context_fn"] = keeping_products
    enable(options)


def keeping_products() -> Any:
    """The two contexts of a layer's first pass and of its recomputation, for torch.utils.checkpoint."""
    return create_selective_checkpoint_contexts(_policy)


def _policy(_context: Any, operation: Any, *_args: Any, **_options: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if name_of(operation) in _DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def name_of(operation: Any) -> str:
    """`aten::mm` of torch.ops.aten.mm.default; of an operator that is Python alone its own name."""
    if isinstance(operation, torch._ops.OpOverload):
        return operation._schema.name
    return str(getattr(operation, "__name__", operation))
