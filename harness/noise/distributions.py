"""Draws from each distribution, at a given width."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness.noise.definition import is_own

# Standard deviation at width 1: what scale="matched" divides by.
_STANDARD_DEVIATION = {"uniform": math.sqrt(1 / 3), "gaussian": 1.0, "rademacher": 1.0}

Fill = Callable[[Tensor, float, torch.Generator], Tensor]


def draw(
    distribution: str, shape: tuple[int, ...], width: float, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Independent entries of one distribution, on the generator's device.

    Args:
        distribution: "uniform" on [-width, width), "gaussian" with standard deviation `width`, "rademacher"
            +-width, or "dropout", the relative change of inverted dropout at rate `width`: -1 with that
            probability, otherwise width / (1 - width).
        dtype: float32 or float64. Half precision is drawn in float32 and rounded afterwards: a uniform draw in
            bfloat16 has a mean of about -width / 500.
    """
    rows = math.prod(shape[:-1])
    return draw_blocks(distribution, [rows], shape[-1], width, [generator], dtype).view(shape)


@cache
def own_distribution(target: str) -> Any:
    """The function named by MODULE:FUNCTION; it draws like those below and has a `standard_deviation` at width 1.

    Raises:
        ValueError: there is no such module or function, or it lacks a positive `standard_deviation`.
    """
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"distribution={target}: {error}; the module must be on PYTHONPATH") from error
    deviation = getattr(function, "standard_deviation", None)
    if not callable(function) or not isinstance(deviation, int | float) or not 0 < deviation < math.inf:
        raise ValueError(
            f"distribution={target}: needs a function of (shape, width, generator, dtype) with the attribute "
            f"standard_deviation, that of its entries at width 1; found {deviation!r}"
        )
    return function


def matching_factor(distribution: str) -> float:
    """The factor that gives a draw the variance of uniform noise (2605.23171)."""
    own = own_distribution(distribution).standard_deviation if is_own(distribution) else None
    return _STANDARD_DEVIATION["uniform"] / (_STANDARD_DEVIATION[distribution] if own is None else float(own))


def draw_blocks(
    distribution: str,
    rows: Sequence[int],
    columns: int,
    width: float,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype,
) -> Tensor:
    """Stacked blocks of (rows[i], columns), each bitwise what `draw` gives with its own generator.

    On a GPU, one launch per block and a few for all of them.
    """
    if distribution == "rademacher":
        return _rademacher_blocks(rows, columns, width, generators, dtype)
    blocks = torch.empty(sum(rows), columns, dtype=dtype, device=generators[0].device)
    fill = _fill_with(own_distribution(distribution)) if is_own(distribution) else _FILL[distribution]
    for block, generator in zip(blocks.split(list(rows)), generators, strict=True):
        fill(block, width, generator)
    return blocks


def _fill_with(function: Any) -> Fill:
    def fill(block: Tensor, width: float, generator: torch.Generator) -> Tensor:
        return block.copy_(function(tuple(block.shape), width, generator, block.dtype))

    return fill


def _uniform(block: Tensor, width: float, generator: torch.Generator) -> Tensor:
    return block.uniform_(-width, width, generator=generator)


def _gaussian(block: Tensor, width: float, generator: torch.Generator) -> Tensor:
    return block.normal_(0.0, width, generator=generator)


def _dropout(block: Tensor, width: float, generator: torch.Generator) -> Tensor:
    return block.bernoulli_(1 - width, generator=generator).div_(1 - width).sub_(1)


_FILL: dict[str, Fill] = {"uniform": _uniform, "gaussian": _gaussian, "dropout": _dropout}


def _rademacher_blocks(
    rows: Sequence[int], columns: int, width: float, generators: Sequence[torch.Generator], dtype: torch.dtype
) -> Tensor:
    """One random bit per sign: 64-bit words are read as bytes, each byte looked up as eight signs.

    Fifteen times as fast as a uniform draw. `random_()` without bounds would leave the top bit of every word
    zero, so that every 64th sign would be the same; from -2**63 upwards all 64 bits are random. sign(u) of
    a uniform u would occasionally be zero. Each block begins with a new word.
    """
    device = generators[0].device
    entries = [count * columns for count in rows]
    words = [math.ceil(count / 64) for count in entries]
    all_words = torch.empty(sum(words), dtype=torch.int64, device=device)
    for block, generator in zip(all_words.split(words), generators, strict=True):
        block.random_(-(2**63), None, generator=generator)
    signs = functional.embedding(all_words.view(torch.uint8).int(), _signs_of_bytes(width, dtype, device)).view(-1)
    if any(count % 64 for count in entries):
        parts = signs.split([64 * count for count in words])
        signs = torch.cat([part[:count] for part, count in zip(parts, entries, strict=True)])
    return signs.view(-1, columns)


@lru_cache(maxsize=4)  # needed for every draw during training
def _signs_of_bytes(width: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(256, 8): the signs of each byte's bits times width."""
    bits = (torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device)) & 1
    return (2 * bits - 1).to(dtype) * width
