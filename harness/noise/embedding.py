"""What the noise needs from a model: its input embedding, and whether a call is a training forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def input_embedding(model: nn.Module) -> nn.Module:
    """The token embedding of a model, also inside wrappers with `.module` such as DDP.

    Raises:
        ValueError: the model has none.
    """
    module: Any = model
    while not hasattr(module, "get_input_embeddings") and isinstance(getattr(module, "module", None), nn.Module):
        module = module.module
    if not hasattr(module, "get_input_embeddings"):
        raise ValueError(f"{type(model).__name__} has no get_input_embeddings(): nowhere to add embedding noise")
    try:
        embedding = module.get_input_embeddings()
    except NotImplementedError as error:
        raise ValueError(f"{type(model).__name__}.get_input_embeddings() finds none") from error
    if not isinstance(embedding, nn.Module):
        raise ValueError(
            f"{type(model).__name__}.get_input_embeddings() gives {embedding!r}, which is not an embedding"
        )
    return embedding


def is_training(module: nn.Module) -> bool:
    """Training mode with gradients recorded: `generate` on a model left in training mode must not be noised."""
    return module.training and torch.is_grad_enabled()


class OtherTables:
    """The embedding tables of a model besides its input embedding, none of which may be given the token ids.

    Noise is right where every layer knows a token by its noised embedding alone. In Gemma 3n and its kin each layer
    looks the token up again in a table of its own, clean: whatever the noise hides stays readable beside it.

    Args:
        model: the module that is called.
        embedding: its input embedding, with whatever is wrapped around it.
    """

    def __init__(self, model: nn.Module, embedding: nn.Module) -> None:
        own = set(embedding.modules())
        self._model = type(model).__name__
        self._tables = {
            name: each
            for name, each in model.named_modules()
            if isinstance(each, nn.Embedding) and each.embedding_dim and each not in own
        }
        self._input_ids: Tensor | None = None
        self._handles: list[Any] = []

    def check_names(self) -> None:
        """Refuse tables that are named for what they are, before anything runs.

        Raises:
            ValueError: one of them.
        """
        for name in self._tables:
            if name.endswith("_per_layer"):
                self.refuse(name)

    def refuse(self, name: str) -> None:
        """Say which table reads the tokens.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"model {self._model}: its layers read the token ids besides their embeddings ({name}), so that noise on "
            "the input embedding cannot hide them; train it without noise"
        )

    def watch(self, found: Callable[[str], None]) -> None:
        """Tell `found` the names of those that are given the token ids; others hold positions, for example."""
        for name, table in self._tables.items():

            def look(_table: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                ids, given = self._input_ids, args[0] if args else None
                if ids is not None and isinstance(given, Tensor) and torch.equal(given.to(ids.device), ids):
                    found(name)

            # Not as a decorator, see EmbeddingNoise.__enter__.
            self._handles.append(table.register_forward_pre_hook(torch.compiler.disable(look)))

    def reading(self, input_ids: Tensor) -> None:
        """A training pass over these token ids begins."""
        if self._handles:
            self._input_ids = input_ids

    def close(self) -> None:
        """Look no more."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._input_ids = [], None
