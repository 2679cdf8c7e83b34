"""What the noise asks of a model: its input embedding, and whether a call of it is a training forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def input_embedding(model: nn.Module) -> nn.Module:
    """The token embedding of a model, looked for under DDP's and others' `.module` too.

    Raises:
        ValueError: the model has none.
    """
    module: Any = model
    while not hasattr(module, "get_input_embeddings") and isinstance(getattr(module, "module", None), nn.Module):
        module = module.module
    if not hasattr(module, "get_input_embeddings"):
        raise ValueError(f"{type(model).__name__} has no get_input_embeddings(): no place for embedding noise")
    try:
        embedding = module.get_input_embeddings()
    except NotImplementedError as error:
        raise ValueError(f"{type(model).__name__}.get_input_embeddings() finds no embedding") from error
    if not isinstance(embedding, nn.Module):
        raise ValueError(f"{type(model).__name__}.get_input_embeddings() gives {embedding!r}: no embedding to noise")
    return embedding


def is_training(module: nn.Module) -> bool:
    """Training mode and gradients recorded: `generate` on a model left in training mode must stay clean."""
    return module.training and torch.is_grad_enabled()
