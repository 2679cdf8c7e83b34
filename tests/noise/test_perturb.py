"""`perturb` against the definitions: by hand, in float64, bit for bit with the code of the peers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.integrations.neftune import neftune_post_forward_hook

from harness.noise import PRESETS, Noise, noise_generators, perturb

BATCH, LENGTH, HIDDEN = 3, 7, 16
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0] * 2 + [1] * 5])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeddings(dtype: torch.dtype = torch.float32, *shape: int) -> Tensor:
    return torch.randn(*(shape or (BATCH, LENGTH, HIDDEN)), generator=seeded(99), dtype=torch.float64).to(dtype)


def unit_draw(distribution: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Entries at width 1 in float64; signs are checked by their own tests and taken from a draw here."""
    if distribution == "uniform":
        return torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=seeded(seed))
    if distribution == "gaussian":
        return torch.empty(shape, dtype=torch.float64).normal_(generator=seeded(seed))
    words = torch.empty(math.ceil(math.prod(shape) / 64), dtype=torch.int64)
    words.random_(-(2**63), None, generator=seeded(seed))
    bits = [word >> bit & 1 for word in words.tolist() for bit in range(64)]
    return (2 * torch.tensor(bits[: math.prod(shape)], dtype=torch.float64) - 1).view(shape)


def reference(X: Tensor, mask: Tensor, noise: Noise, seed: int) -> Tensor:
    """2310.05914 Algorithm 1 and 2312.01523 Algorithm 2, row by row, in float64."""
    matched = {"uniform": 1.0, "gaussian": 3**-0.5, "rademacher": 3**-0.5}[noise.distribution]
    unit = unit_draw(noise.distribution, tuple(X.shape), seed)
    noise_BLD = torch.zeros_like(X)
    for row in range(len(X)):
        length = {"true": int(mask[row].sum()), "row": int(mask[row].sum()), "padded": X.shape[1]}[noise.length]
        scale = noise.alpha / math.sqrt(length * X.shape[2]) * (1.0 if noise.scale == "raw" else matched)
        if noise.scale == "relative":
            scale *= float(X[row][mask[row] == 1].norm(dim=1).mean())
        for token in range(X.shape[1]):
            if mask[row, token] or noise.length == "padded":
                noise_BLD[row, token] = scale * unit[row, token]
    return torch.cat([X + noise_BLD, X - noise_BLD]) if noise.pair == "antithetic" else X + noise_BLD


@pytest.mark.parametrize("length", ["true", "padded", "row"])
@pytest.mark.parametrize("pair", ["none", "antithetic"])
@pytest.mark.parametrize("scale", ["raw", "matched", "relative"])
@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "rademacher"])
def test_every_kind_is_its_definition(distribution: str, scale: str, pair: str, length: str) -> None:
    noise = Noise(distribution, 5.0, scale, pair, length)  # type: ignore[arg-type]
    X = embeddings(torch.float64)
    found = perturb(X, MASK, noise, seeded(3))
    # Rounding of products of numbers of size 1 in float64.
    torch.testing.assert_close(found, reference(X, MASK, noise, 3), rtol=0, atol=1e-14)


def test_one_document_by_hand() -> None:
    # alpha 6, L = 3 real tokens, d = 3: every entry is moved by 6 / sqrt(9) = 2, padding by nothing.
    X = torch.zeros(1, 4, 3)
    found = perturb(X, torch.tensor([[1, 1, 1, 0]]), Noise("rademacher", 6.0), seeded())
    assert torch.equal(found[0, :3].abs(), torch.full((3, 3), 2.0))
    assert torch.equal(found[0, 3], torch.zeros(3))
    assert found[0, :3].norm() == 6.0


def test_relative_noise_by_hand() -> None:
    # Two tokens of norms 5 and 1, mean 3; alpha 2, L = 2, d = 2: signs of 2 * 3 / sqrt(4) / sqrt(3) = sqrt(3).
    X = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [100.0, 0.0]]])
    noise, mask = Noise("rademacher", 2.0, "relative"), torch.tensor([[1, 1, 0]])
    added = perturb(X, mask, noise, seeded()) - X
    assert added[0, :2].abs().flatten().tolist() == pytest.approx([math.sqrt(3)] * 4, rel=1e-6)
    assert not added[0, 2].any()
    assert float(added.norm()) == pytest.approx(2 * 3 / math.sqrt(3))  # alpha times the mean norm over sqrt(3)
    doubled = perturb(10 * X, mask, noise, seeded()) - 10 * X  # ten times the embeddings, ten times the noise
    torch.testing.assert_close(doubled, 10 * added, rtol=1e-5, atol=1e-4)


def test_no_gradient_flows_through_the_norm_of_relative_noise() -> None:
    X = embeddings(torch.float64).requires_grad_()
    perturb(X, MASK, Noise("gaussian", 5.0, "relative"), seeded()).sum().backward()
    assert X.grad is not None
    assert torch.equal(X.grad, torch.ones_like(X))  # that of the identity: the noise is a constant


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relative_noise_is_the_same_packed_and_padded(dtype: torch.dtype) -> None:
    """The size of a document's noise comes from that document alone: to the bit, whoever its neighbours are."""
    noise = Noise("uniform", 5.0, "relative", "antithetic")
    lengths = (7, 4, 5)
    texts = [size * embeddings(dtype, length, HIDDEN) for size, length in zip((1, 3, 0.2), lengths, strict=True)]
    padded, mask = torch.zeros(3, 9, HIDDEN, dtype=dtype), torch.zeros(3, 9, dtype=torch.long)
    for row, text in enumerate(texts):
        padded[row, : len(text)], mask[row, : len(text)] = text, 1
    ids = torch.tensor([[number for number, length in enumerate(lengths) for _ in range(length)]])
    rows = perturb(padded, mask, noise, noise_generators(1, 2, (8, 3, 5)))
    packed = perturb(
        torch.cat(texts)[None], torch.ones_like(ids), noise, noise_generators(1, 2, (8, 3, 5)), document_ids=ids
    )
    for half in (0, 1):
        split = packed[half].split(lengths)
        for row, text in enumerate(split):
            assert torch.equal(rows[3 * half + row, : len(text)], text)


def official_neftune(embeds_init: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    """The arithmetic of the official training code (neelsjain/NEFTune, experiment_code/train.py)."""
    mask = attention_mask.to(embeds_init)
    lengths = torch.sum(mask, 1)
    drawn = torch.zeros_like(embeds_init).uniform_(-1, 1)
    magnitude = alpha / torch.sqrt(lengths * embeds_init.size(-1))
    return (drawn * mask.unsqueeze(2) * magnitude.view(-1, 1, 1)).detach() + embeds_init


def global_generator_at(seed: int) -> torch.Generator:
    """A generator in the state in which manual_seed(seed) leaves the global one."""
    torch.manual_seed(seed)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return generator


@pytest.mark.parametrize("shape", [(3, 7, 16), (2, 33, 100), (1, 1, 3)])
@pytest.mark.parametrize("alpha", [5, 5.0, 0.3])
def test_neftune_is_the_official_code_bit_for_bit(shape: tuple[int, int, int], alpha: float) -> None:
    X = embeddings(torch.float32, *shape)
    mask = (torch.arange(shape[1]) < torch.tensor([[shape[1]], [5], [4]])[: shape[0]]).long()
    generator = global_generator_at(12)
    expected = official_neftune(X, mask, alpha)
    assert torch.equal(perturb(X, mask, Noise(**PRESETS["neftune"], alpha=alpha), generator), expected)


@pytest.mark.parametrize("shape", [(3, 7, 16), (2, 33, 100), (1, 1, 3)])
@pytest.mark.parametrize("alpha", [5, 0.3])
def test_neftune_hf_is_transformers_hook_bit_for_bit(shape: tuple[int, int, int], alpha: float) -> None:
    module = torch.nn.Embedding(11, shape[2])
    module.neftune_noise_alpha = alpha  # type: ignore[assignment]
    X = module(torch.randint(11, shape[:2], generator=seeded(5))).detach()
    mask = torch.ones(shape[:2], dtype=torch.long)
    mask[0, 1:] = 0
    generator = global_generator_at(12)
    expected = neftune_post_forward_hook(module, (), X)
    found = perturb(X, mask, Noise(**PRESETS["neftune_hf"], alpha=alpha), generator)
    assert torch.equal(found, expected)
    assert not torch.equal(found[0, -1], X[0, -1]) or shape[1] == 1  # padding is noised


def test_both_parities_leave_the_generator_where_the_peers_do() -> None:
    X, generator = embeddings(), global_generator_at(4)
    official_neftune(X, MASK, 5.0)
    perturb(X, MASK, Noise(), generator)
    assert torch.equal(generator.get_state(), torch.get_rng_state())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_alpha_zero_is_the_input_bit_for_bit(name: str) -> None:
    noise = Noise(**{**PRESETS[name], "alpha": 0.0, "rate": 0.0})
    X = embeddings()
    assert torch.equal(perturb(X, MASK, noise, seeded()), torch.cat([X] * noise.halves))
    assert torch.equal(perturb(X, MASK, Noise(**PRESETS["none"], alpha=5.0), seeded()), X)


@pytest.mark.parametrize("name", ["symnoise", "sym_uniform", "sym_gaussian"])
def test_the_pair_is_antisymmetric_exactly(name: str) -> None:
    zero = torch.zeros(BATCH, LENGTH, HIDDEN)
    plus, minus = perturb(zero, MASK, Noise(**PRESETS[name]), seeded()).chunk(2)
    assert torch.equal(plus, -minus)
    assert plus.abs().sum() > 0


def test_independent_halves_are_two_draws_in_a_row() -> None:
    X, generator = embeddings(), seeded(8)
    halves = perturb(X, MASK, Noise(**PRESETS["neftune_x2"]), seeded(8)).chunk(2)
    for half in halves:
        assert torch.equal(half, perturb(X, MASK, Noise(), generator))
    assert not torch.equal(*halves)


def test_dropout_is_inverted_dropout() -> None:
    X = embeddings(torch.float64)
    found = perturb(X, MASK, Noise(distribution="dropout", rate=0.25), seeded(2))
    kept = torch.empty(X.shape, dtype=torch.float64).bernoulli_(0.75, generator=seeded(2))
    expected = torch.where(MASK[..., None].bool(), X * kept / 0.75, X)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    assert 0 < (found == 0).sum() < X.numel() / 2


# Packing


def pack(documents: list[Tensor], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """One row of several documents: embeddings, attention mask, document ids (padding keeps the last)."""
    lengths = [len(document) for document in documents]
    ids = torch.repeat_interleave(torch.arange(len(documents)), torch.tensor(lengths))
    row = torch.cat([*documents, torch.zeros(padding, HIDDEN)])
    mask = torch.cat([torch.ones(sum(lengths)), torch.zeros(padding)]).long()
    return row[None], mask[None], torch.cat([ids, ids[-1:].expand(padding)])[None]


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    padding=st.integers(0, 3),
    name=st.sampled_from(sorted(set(PRESETS) - {"neftune_hf"})),
)
def test_packed_is_unpacked_document_by_document(lengths: list[int], padding: int, name: str) -> None:
    noise = Noise(**PRESETS[name])
    documents = [embeddings(torch.float32, length, HIDDEN) for length in lengths]
    row, mask, ids = pack(documents, padding)
    packed = perturb(row, mask, noise, noise_generators(1, 2, range(len(lengths))), document_ids=ids)
    start = 0
    for number, document in enumerate(documents):
        alone = perturb(document[None], torch.ones(1, len(document)), noise, noise_generators(1, 2, [number]))
        assert torch.equal(packed[:, start : start + len(document)], alone)
        start += len(document)
    assert torch.equal(packed[:, start:], row[:, start:].expand(noise.halves, -1, -1))


def test_padding_side_and_order_do_not_change_a_documents_noise() -> None:
    noise, X = Noise("gaussian"), torch.zeros(2, 5, HIDDEN)
    left = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    first = perturb(X, left, noise, noise_generators(0, 0, [10, 11]))
    second = perturb(X, left.flip(1).flip(0), noise, noise_generators(0, 0, [11, 10]))
    assert torch.equal(first[0, 2:], second[1, :3])
    assert torch.equal(first[1], second[0])


def test_one_generator_gives_packed_documents_their_own_length() -> None:
    # Lengths 4 and 2 in a row of 8, d = 1: widths 6 / 2 and 6 / sqrt(2), padding 0. The fault: 6 / sqrt(6).
    ids, mask = torch.tensor([[7, 7, 7, 7, 3, 3, 3, 3]]), torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    X = torch.zeros(1, 8, 1)
    found = perturb(X, mask, Noise("rademacher", 6.0), seeded(), document_ids=ids)[0, :, 0].abs()
    assert found.tolist() == pytest.approx([3.0] * 4 + [6 / math.sqrt(2)] * 2 + [0.0] * 2, rel=1e-6)
    fault = perturb(X, mask, Noise("rademacher", 6.0, length="row"), seeded(), document_ids=ids)[0, :, 0].abs()
    assert fault.tolist() == pytest.approx([6 / math.sqrt(6)] * 6 + [0.0] * 2, rel=1e-6)
    padded = perturb(X, mask, Noise("rademacher", 6.0, length="padded"), seeded(), document_ids=ids)[0, :, 0]
    assert padded.abs().tolist() == pytest.approx([6 / math.sqrt(8)] * 8, rel=1e-6)


def test_documents_may_interleave_and_repeat_ids_in_other_rows() -> None:
    # Equal numbers in a row are one document; the same number in another row is another.
    ids, mask = torch.tensor([[5, 1, 5, 1], [5, 5, 5, 5]]), torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]])
    X = torch.zeros(2, 4, 2)
    generators = noise_generators(0, 0, [97, 1, 2])
    found = perturb(X, mask, Noise("gaussian"), generators, document_ids=ids)
    blocks = [
        perturb(torch.zeros(1, length, 2), torch.ones(1, length), Noise("gaussian"), [generator])[0]
        for length, generator in zip([2, 1, 3], noise_generators(0, 0, [97, 1, 2]), strict=True)
    ]
    assert torch.equal(found[0, [0, 2]], blocks[0])
    assert torch.equal(found[0, [1]], blocks[1])
    assert torch.equal(found[1, [0, 2, 3]], blocks[2])
    assert found[0, 3].abs().sum() + found[1, 1].abs().sum() == 0


def test_padded_length_with_a_generator_per_document_noises_padding_too() -> None:
    X, noise = torch.zeros(BATCH, LENGTH, HIDDEN), Noise("rademacher", length="padded")
    found = perturb(X, MASK, noise, noise_generators(0, 0, range(BATCH)))
    torch.testing.assert_close(found.abs(), torch.full_like(X, 5.0 / math.sqrt(LENGTH * HIDDEN)))
    # The padding draws after the tokens, so that its side does not change their noise.
    mirrored = perturb(X, MASK.flip(1), noise, noise_generators(0, 0, range(BATCH)))
    assert torch.equal(mirrored[1, 3:], found[1, :4])
    assert torch.equal(mirrored[2, :5], found[2, 2:])


# Where


def test_where_isolates_the_place_and_not_the_strength() -> None:
    # 4 real tokens: two of the prompt (one special), two of the response; d = 4, alpha 4: width 1.
    X, mask = torch.zeros(1, 5, 4), torch.tensor([[1, 1, 1, 1, 0]])
    labels, special = torch.tensor([[-100, -100, 8, 9, -100]]), torch.tensor([[1, 0, 0, 0, 1]])
    expected = {
        ("all", True): [1, 1, 1, 1, 0],
        ("all", False): [0, 1, 1, 1, 0],
        ("prompt", True): [1, 1, 0, 0, 0],
        ("prompt", False): [0, 1, 0, 0, 0],
        ("response", True): [0, 0, 1, 1, 0],
        ("response", False): [0, 0, 1, 1, 0],
    }
    whole = perturb(X, mask, Noise("rademacher", 4.0), seeded())
    for (where, special_tokens), noised in expected.items():
        noise = Noise("rademacher", 4.0, where=where, special_tokens=special_tokens)  # type: ignore[arg-type]
        for length in ("true", "padded") if where != "all" else ("true",):
            noise = Noise(**{**vars(noise), "length": length})
            found = perturb(X, mask, noise, seeded(), labels=labels, special_tokens_mask=special)
            assert [bool(token) for token in found[0].abs().sum(1)] == [bool(n) for n in noised]
            if length == "true":
                assert torch.equal(found, whole * torch.tensor(noised)[:, None])


# Number types and gradients


def test_float16_does_not_lose_the_noise_to_overflow() -> None:
    # 64 tokens x 2048 = 131072 > 65504, the largest float16: alpha / sqrt(inf) would be 0.
    X, mask = torch.zeros(1, 64, 2048, dtype=torch.float16), torch.ones(1, 64, dtype=torch.float16)
    found = perturb(X, mask, Noise("rademacher", 5.0), seeded())
    assert found.dtype == torch.float16
    assert found.double().norm().item() == pytest.approx(5.0, rel=1e-3)  # one rounding to 11 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "rademacher"])
def test_half_precision_is_the_float32_noise_rounded_once(distribution: Any, dtype: torch.dtype) -> None:
    noise = Noise(distribution)
    single = perturb(torch.zeros(BATCH, LENGTH, HIDDEN), MASK, noise, seeded())
    half = perturb(torch.zeros(BATCH, LENGTH, HIDDEN, dtype=dtype), MASK, noise, seeded())
    assert torch.equal(half, single.to(dtype))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_gradient_passes_straight_through(name: str) -> None:
    X = embeddings(torch.float64).requires_grad_()
    noise = Noise(**PRESETS[name])
    out = perturb(X, MASK, noise, seeded())
    weights = torch.randn(out.shape, generator=seeded(1), dtype=torch.float64)
    (out * weights).sum().backward()
    expected = weights.unflatten(0, (noise.halves, BATCH)).sum(0)
    if noise.distribution == "dropout":
        expected = weights * (out / X).detach()
    torch.testing.assert_close(X.grad, expected, rtol=1e-14, atol=1e-14)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for name in PRESETS:
        perturb(embeddings(), MASK, Noise(**PRESETS[name]), seeded())
        perturb(embeddings(), MASK, Noise(**PRESETS[name]), noise_generators(0, 0, range(BATCH)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_padding_alone_is_unchanged() -> None:
    X, mask = embeddings(), torch.zeros(BATCH, LENGTH)
    assert torch.equal(perturb(X, mask, Noise(), seeded()), X)
    assert torch.equal(perturb(X, mask, Noise(), []), X)


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": torch.zeros(3, 7)}, r"embeddings of shape \(3, 7\)"),
        ({"embeddings": torch.zeros(3, 7, 4, dtype=torch.long)}, "floating point"),
        ({"attention_mask": torch.ones(3, 6)}, r"attention_mask of shape \(3, 6\)"),
        ({"attention_mask": torch.ones(3, 7) * 2}, "values other than 0 and 1"),
        ({"document_ids": torch.zeros(1, 7)}, r"document_ids of shape \(1, 7\)"),
        ({"labels": torch.zeros(3, 8)}, r"labels of shape \(3, 8\)"),
        ({"generator": []}, "0 generators for 3 documents"),
        ({"noise": Noise(where="prompt")}, "where='prompt': needs labels"),
        ({"noise": Noise(special_tokens=False)}, "needs special_tokens_mask"),
        ({"noise": Noise(schedule="cosine")}, "schedule='cosine'"),
    ],
)
def test_errors_name_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "embeddings": embeddings(),
        "attention_mask": MASK,
        "noise": Noise(),
        "generator": seeded(),
    }
    with pytest.raises(ValueError, match=message):
        perturb(**{**arguments, **change})


def test_a_schedule_scales_the_noise() -> None:
    zero = torch.zeros(BATCH, LENGTH, HIDDEN)
    full = perturb(zero, MASK, Noise("rademacher"), seeded())
    half = perturb(zero, MASK, Noise("rademacher", schedule="linear"), seeded(), progress=0.5)
    torch.testing.assert_close(half, full / 2)
