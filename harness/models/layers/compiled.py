"""The decoder layers of a model: where it is cut into shards, and what is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_PARTS = ("Norm", "MLP")  # ends of the class names that transformers gives them


def decoder_layers(model: nn.Module, key: str) -> list[nn.Module]:
    """The decoder layers, by the class names that transformers lists.

    Args:
        key: of the setting that needs them, for the message.

    Raises:
        ValueError: the model does not list them.
    """
    names: Any = getattr(model, "_no_split_modules", None) or ()
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ValueError(f"{key}: {type(model).__name__} does not say what its layers are (_no_split_modules)")
    return layers


@contextmanager
def compiled_layers(model: nn.Module, backend: str | Any = "inductor") -> Iterator[None]:
    """While inside, norms and feed-forward layers run through torch.compile, once for each shape of rows.

    Not the layers as a whole: checkpointing and shards (fully_shard) work on their calls, and attention within
    documents goes by lengths that differ from batch to batch, through kernels that are compiled already. Mixtures of
    experts, whose shapes follow from their tokens, stay as they are.

    Raises:
        ValueError: the model does not say what its layers are, or they have no such parts.
    """
    parts = [
        part
        for layer in decoder_layers(model, "train.compile=true")
        for part in layer.children()
        if type(part).__name__.endswith(_PARTS)
    ]
    if not parts:
        raise ValueError(f"train.compile=true: the layers of {type(model).__name__} have no parts that it compiles")
    for part in parts:
        part.forward = torch.compile(part.forward, backend=backend, dynamic=False)
    try:
        yield
    finally:
        for part in parts:
            del part.forward
