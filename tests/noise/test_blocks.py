"""Noise of many documents drawn into one tensor: the bits of each drawn alone, in a few launches for all."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.noise.distributions import draw_blocks
from harness.noise.randomness import noise_generators

ROWS = (1, 37, 5, 120, 2)


def alone(distribution, shape, width, generator, dtype):
    """One document's block by definition: each distribution as the noise's first release drew it."""
    block = torch.empty(shape, dtype=dtype)
    if distribution == "uniform":
        return block.uniform_(-width, width, generator=generator)
    if distribution == "gaussian":
        return block.normal_(0.0, width, generator=generator)
    if distribution == "dropout":
        return block.bernoulli_(1 - width, generator=generator).div_(1 - width).sub_(1)
    entries = math.prod(shape)
    words = torch.empty(math.ceil(entries / 64), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = [(word >> shift) & 1 for word in words.tolist() for shift in range(64)]
    return (torch.tensor(bits[:entries], dtype=dtype) * 2 - 1).view(shape) * width


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [64, 576, 7])
@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "rademacher", "dropout"])
def test_each_block_has_the_bits_that_it_has_alone(distribution, columns, dtype):
    generators, again = (noise_generators(3, 5, range(len(ROWS))) for _ in range(2))
    blocks = draw_blocks(distribution, ROWS, columns, 0.25, generators, dtype)
    expected = [alone(distribution, (rows, columns), 0.25, each, dtype) for rows, each in zip(ROWS, again, strict=True)]
    assert torch.equal(blocks, torch.cat(expected))


class Launches(TorchDispatchMode):
    """How many operations ran that a GPU would be given as a kernel, views left out."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        views = ("view", "split", "slice", "alias", "unsqueeze", "empty", "detach")
        self.count += not any(name in str(function) for name in views)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("columns", [64, 576, 7])
@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "rademacher"])
def test_documents_cost_one_launch_each(distribution, columns):
    documents = 128
    with Launches() as launches:
        draw_blocks(
            distribution, [3] * documents, columns, 1.0, noise_generators(0, 1, range(documents)), torch.float32
        )
    assert launches.count <= documents + 12
