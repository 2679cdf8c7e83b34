"""RMSNorm and SwiGLU of Llama and its kin through the kernels of the package liger-kernel, on a GPU.

Liger's own patching replaces transformers' classes for the whole process, the models of later runs included. Here one
model's modules call its functions, while it trains. Its loss is not used: that of harness.train.loss forms no more
than a chunk of logits either.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_FUNCTIONS = "liger_kernel.transformers.functional"


def check_liger(model_type: str) -> None:
    """Whether the modules of such a model are known here.

    Raises:
        ValueError: they are not.
    """
    if model_type not in MODEL_TYPES:
        raise ValueError(f"train.liger=true: knows {', '.join(MODEL_TYPES)}, not model_type={model_type}")


@contextmanager
def liger_kernels(model: nn.Module) -> Iterator[int]:
    """While inside, norms and gated feed-forward layers compute through Liger; how many modules do.

    They are differentiable once.

    Raises:
        ValueError: no GPU, or another kind of model.
    """
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("train.liger=true: its kernels need a GPU, and none is visible")
    config: Any = model.config
    check_liger(config.model_type)
    if config.hidden_act not in ("silu", "swish"):
        raise ValueError(f"train.liger=true: SwiGLU has SiLU at its gate, this model {config.hidden_act}")
    functions = importlib.import_module(_FUNCTIONS)
    changed = [module for module in model.modules() if _change(module, functions)]
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.forward


def _change(module: nn.Module, functions: Any) -> bool:
    name = type(module).__name__
    if name.endswith("RMSNorm"):
        module.forward = partial(_norm, module, functions.liger_rms_norm)
    elif name.endswith("MLP"):
        module.forward = partial(_feed_forward, module, functions.liger_swiglu)
    else:
        return False
    return True


def _norm(module: Any, rms_norm: Any, hidden_BTD: Tensor) -> Tensor:
    # Not in place: the gradient of the sum that follows goes on along the residual stream, too.
    normed: Tensor = rms_norm(hidden_BTD, module.weight, module.variance_epsilon, in_place=False)
    return normed


def _feed_forward(module: Any, swiglu: Any, hidden_BTD: Tensor) -> Tensor:
    result: Tensor = module.down_proj(swiglu(module.gate_proj(hidden_BTD), module.up_proj(hidden_BTD)))
    return result
