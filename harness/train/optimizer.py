"""The optimiser by its name in torch.optim, checked by one step on two small tensors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from harness.config import ModelConfig, TrainConfig


def build_optimizer(parameters: Iterable[nn.Parameter], settings: TrainConfig) -> torch.optim.Optimizer:
    """torch.optim.<optimizer>(trainable parameters, lr, weight_decay, **optimizer_options), fused if possible.

    Weight decay applies to all parameters, norms and biases included.

    Raises:
        ValueError: no such class, an unknown option, or weight decay for an optimiser without it.
    """
    kind = _class(settings.optimizer)
    known = [name for name in inspect.signature(kind).parameters if name not in ("params", "lr", "weight_decay")]
    given = settings.optimizer_options or {}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"train.optimizer_options: torch.optim.{settings.optimizer} has no {', '.join(unknown)}; "
            f"it has {', '.join(known)}"
        )
    options: dict[str, Any] = {key: _tuples(value) for key, value in given.items()}
    if "weight_decay" in inspect.signature(kind).parameters:
        options["weight_decay"] = settings.weight_decay
    elif settings.weight_decay:
        raise ValueError(
            f"train.weight_decay={settings.weight_decay}: torch.optim.{settings.optimizer} has no weight decay"
        )
    if "fused" in known and not {"fused", "foreach", "differentiable"} & set(options):
        options["fused"] = True
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return kind(trainable, lr=settings.lr, **options)


def check_optimizer(settings: TrainConfig) -> float:
    """Check the optimiser by one step with a matrix and a vector.

    Returns:
        Numbers of optimiser state per number of a weight matrix (AdamW: 2).

    Raises:
        ValueError: an optimiser or option that cannot be used, in torch's words.
    """
    matrix, vector = (nn.Parameter(torch.ones(shape)) for shape in ((64, 64), (64,)))
    matrix.grad, vector.grad = torch.full_like(matrix, 0.5), torch.full_like(vector, 0.5)
    try:
        optimizer = build_optimizer([matrix, vector], settings)
        optimizer.step()
    except (TypeError, ValueError, RuntimeError) as error:
        if str(error).startswith("train."):
            raise
        where = f"train.optimizer={settings.optimizer}, optimizer_options={settings.optimizer_options or {}}"
        raise ValueError(f"{where}: cannot train a matrix and a vector: {error}") from None
    state = [value for value in optimizer.state[matrix].values() if isinstance(value, torch.Tensor)]
    return sum(value.numel() for value in state if value.ndim) / matrix.numel()


def moved_share(lr: float, dtype: torch.dtype, deviation: float = 0.02) -> float:
    """Share of weights N(0, deviation) that a step of size `lr` changes if weights are rounded to `dtype`.

    AdamW's step is about lr. A weight in [2^e, 2^(e+1)) has neighbours 2^(e-p) away, p = 7 in bfloat16 and 10 in
    float16, and moves if lr is at least half of that: if |w| < 2^(floor(log2 lr) + p + 2).
    """
    bits = round(-math.log2(torch.finfo(dtype).eps))
    bound = 2.0 ** (math.floor(math.log2(lr)) + bits + 2)
    return math.erf(bound / deviation / math.sqrt(2))


def lost_updates(model: ModelConfig, train: TrainConfig) -> str | None:
    """A warning if 16-bit weights are trained directly: most steps round to nothing."""
    dtype = getattr(torch, model.dtype)
    if train.method != "full" or torch.finfo(dtype).bits > 16:
        return None
    share = moved_share(train.lr, dtype)
    return (
        f"warning: model.dtype={model.dtype} trains 16-bit weights: of weights N(0, 0.02) a step of "
        f"train.lr={train.lr:g} moves {share:.0%}, the rest round back (and 16-bit second moments hardly decay); "
        "model.dtype=float32 with train.precision=bf16 avoids this, at 12 more bytes per parameter with AdamW"
    )


def _class(name: str) -> Any:
    found = getattr(torch.optim, name, None)
    if not (inspect.isclass(found) and issubclass(found, torch.optim.Optimizer) and found is not torch.optim.Optimizer):
        raise ValueError(f"train.optimizer={name}: no such class in torch.optim; choose from {', '.join(_names())}")
    return found


def _names() -> list[str]:
    classes = ((name, getattr(torch.optim, name)) for name in dir(torch.optim))
    return [name for name, each in classes if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)]


def _tuples(value: Any) -> Any:
    """Turn YAML's lists into the tuples that torch expects (betas)."""
    return tuple(value) if isinstance(value, list) else value
