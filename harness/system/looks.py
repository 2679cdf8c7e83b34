"""Caches look-ups of files within `one_look`, where the same arguments are looked up only once.

A plan of thousands of jobs names a handful of files. Elsewhere every call looks again, because files change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_found: ContextVar[dict[Any, Any] | None] = ContextVar("found", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Let `looked_once` functions remember what they return until the end of the block."""
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def looked_once(function: Callable[P, R]) -> Callable[P, R]:
    """Remember results within `one_look`; arguments must be hashable, and an error is not remembered."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        found = _found.get()
        if found is None:
            return function(*args, **kwargs)
        key = (function, args, tuple(sorted(kwargs.items())))
        if key not in found:
            found[key] = function(*args, **kwargs)
        result: R = found[key]
        return result

    return wrapped
