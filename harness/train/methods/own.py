"""A user's own method: a class in a module on Python's path, named in the config."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from harness.train.methods.base import Method, MicroBatch


class Own(Method):
    """The class named by `noise.own.target`, constructed and called like the methods of this package.

    Its `self.settings` has the keys of `noise.own.settings` as attributes. The cost that `noise.own` states is not
    checked.
    """

    noise_stream = 7

    def __init__(self, accelerator: Any, objective: Any, settings: Any, pair_mode: Any = "concat") -> None:
        super().__init__(accelerator, objective, settings, pair_mode)
        kind = own_method(settings.target)
        self._inner = kind(accelerator, objective, SimpleNamespace(**settings.settings), pair_mode)

    def backward(self, micro: MicroBatch) -> Tensor:
        return self._inner.backward(micro)

    def step(self, accumulate: Callable[[], Tensor]) -> Tensor:
        return self._inner.step(accumulate)


def own_method(target: str) -> type[Method]:
    """The class behind MODULE:CLASS.

    Raises:
        ValueError: there is no such module or class, or it is not a `Method`.
    """
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"noise.own.target={target}: {error}; the module must be on PYTHONPATH") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"noise.own.target={target}: is not a subclass of harness.train.methods.Method")
    return found
