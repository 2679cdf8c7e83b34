"""All axes at once, drawn at random, against the definition written out token by token."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.noise import Noise, noise_generators, perturb, realised_noise
from harness.noise.definition import Length, Pair, Scale, Schedule, Where
from harness.noise.tokens import Tokens

HIDDEN, SEED, STEP = 6, 4, 9
_SCHEDULES = {"constant": 1.0, "linear": 0.75, "cosine": 0.5 * (1 + math.cos(math.pi / 4)), "warmup": 1.0}
PROGRESS = 0.25

# Rows of documents of so many tokens; a row may be empty, a document may have one token.
ROWS = st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=3).filter(any)
AXES: dict[str, st.SearchStrategy[Any]] = {
    "distribution": st.sampled_from(["uniform", "gaussian", "rademacher"]),
    "alpha": st.sampled_from([0.3, 5.0]),
    "scale": st.sampled_from(get_args(Scale)),
    "pair": st.sampled_from(get_args(Pair)),
    "length": st.sampled_from(get_args(Length)),
    "where": st.sampled_from(get_args(Where)),
    "special_tokens": st.booleans(),
    "schedule": st.sampled_from(get_args(Schedule)),
}


class Layout:
    """Random labels and special tokens over rows of documents, padded to one width."""

    def __init__(self, rows: list[list[int]], seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        shape = (len(rows), max(map(sum, rows)) + 1)
        self.rows = rows
        self.mask, self.ids = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        self.labels = torch.where(torch.rand(shape, generator=random) < 0.5, -100, 7)
        self.special = (torch.rand(shape, generator=random) < 0.3).long()
        self.embeddings = torch.randn(*shape, HIDDEN, generator=random, dtype=torch.float64)
        for row, lengths in enumerate(rows):
            self.mask[row, : sum(lengths)] = 1
            for number, length in enumerate(lengths):
                start = sum(lengths[:number])
                self.ids[row, start : start + length] = number

    def documents(self) -> list[tuple[int, list[int]]]:
        """(row, columns) of each document."""
        return [
            (row, list(range(sum(lengths[:number]), sum(lengths[: number + 1]))))
            for row, lengths in enumerate(self.rows)
            for number in range(len(lengths))
        ]


def unit(distribution: str, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Entries at width 1, in float64 as the embeddings are."""
    if distribution == "uniform":
        return torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    if distribution == "gaussian":
        return torch.empty(shape, dtype=torch.float64).normal_(generator=generator)
    words = torch.empty(math.ceil(math.prod(shape) / 64), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    bits = [word >> bit & 1 for word in words.tolist() for bit in range(64)]
    return (2 * torch.tensor(bits[: math.prod(shape)], dtype=torch.float64) - 1).view(shape)


def definition(layout: Layout, noise: Noise) -> Tensor:
    """Document by document and token by token, from each document's own generator."""
    found = [layout.embeddings.clone() for _ in range(noise.halves)]
    width, documents = layout.mask.shape[1], layout.documents()
    generators = noise_generators(SEED, STEP, range(len(documents)))
    last_of_row = {row: number for number, (row, _) in enumerate(documents)}
    for number, (row, columns) in enumerate(documents):
        length = {"true": len(columns), "padded": width, "row": sum(layout.rows[row])}[noise.length]
        size = noise.alpha * _SCHEDULES[noise.schedule] / math.sqrt(length * HIDDEN)
        if noise.scale != "raw" and noise.distribution != "uniform":
            size /= math.sqrt(3)
        if noise.scale == "relative":
            size *= sum(float(layout.embeddings[row, each].norm()) for each in columns) / len(columns)
        drawn = list(columns)
        if noise.length == "padded" and last_of_row[row] == number:
            drawn += range(sum(layout.rows[row]), width)
        first = size * unit(noise.distribution, (len(drawn), HIDDEN), generators[number])
        halves = [first, -first]
        if noise.pair == "independent":
            halves[1] = size * unit(noise.distribution, (len(drawn), HIDDEN), generators[number])
        for half in range(noise.halves):
            for place, column in enumerate(drawn):
                if is_noised(layout, noise, row, column):
                    found[half][row, column] += halves[half][place]
    return torch.cat(found)


def is_noised(layout: Layout, noise: Noise, row: int, column: int) -> bool:
    real = bool(layout.mask[row, column])
    prompt = bool(layout.labels[row, column] == -100)
    if not noise.special_tokens and layout.special[row, column]:
        return False
    if noise.where == "all":
        return real or noise.length == "padded"
    return real and prompt == (noise.where == "prompt")


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), axes=st.fixed_dictionaries(AXES))
def test_every_combination_is_the_definition(rows: list[list[int]], seed: int, axes: dict[str, Any]) -> None:
    layout, noise = Layout(rows, seed), Noise(**axes)
    found = perturbed(layout, noise, layout.embeddings)
    torch.testing.assert_close(found, definition(layout, noise), rtol=0, atol=1e-13)  # rounding of numbers up to 10


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), axes=st.fixed_dictionaries(AXES))
def test_bfloat16_is_the_same_noise_rounded(rows: list[list[int]], seed: int, axes: dict[str, Any]) -> None:
    layout, noise = Layout(rows, seed), Noise(**axes)
    zeros = torch.zeros_like(layout.embeddings)
    single, half = (perturbed(layout, noise, zeros.to(dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(half, single.bfloat16())


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), axes=st.fixed_dictionaries(AXES))
def test_statistics_are_those_of_what_was_added(rows: list[list[int]], seed: int, axes: dict[str, Any]) -> None:
    layout, noise = Layout(rows, seed), Noise(**axes)
    after = perturbed(layout, noise, layout.embeddings).unflatten(0, (noise.halves, len(rows)))
    found = realised_noise(layout.embeddings[None], after, Tokens(layout.mask, layout.ids))
    added = after - layout.embeddings
    for number, (row, columns) in enumerate(layout.documents()):
        norms = [float(half[row, columns].norm()) for half in added]
        assert found.norm[:, number].tolist() == pytest.approx(norms, abs=1e-12)
    places = [(row, column) for row, columns in layout.documents() for column in columns]
    share = sum(is_noised(layout, noise, *place) for place in places) / len(places)
    assert found.noised == pytest.approx(share)
    assert all(math.isfinite(value) for value in found.summary().values())


def perturbed(layout: Layout, noise: Noise, embeddings: Tensor) -> Tensor:
    generators = noise_generators(SEED, STEP, range(len(layout.documents())))
    tensors = (layout.ids, layout.labels, layout.special)
    return perturb(embeddings, layout.mask, noise, generators, *tensors, progress=PROGRESS)
