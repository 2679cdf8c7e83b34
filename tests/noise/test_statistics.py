"""What the noise is on average, and what the pair does to a loss.

Every bound is Z = 6 standard errors of the statistic under the definition, the error derived beside it. Right
noise lies outside of one bound with probability 2e-9; all checks together, 2,100 bit correlations included,
raise a false alarm with probability under 1e-5 for a seed taken at random. The seeds are fixed.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.noise import PRESETS, Noise, noise_generators, perturb, realised_noise
from harness.noise.distributions import draw
from harness.noise.tokens import Tokens

Z = 6.0
DOCUMENTS, LENGTH, HIDDEN, ALPHA = 64, 12, 32, 5.0
SIZE = LENGTH * HIDDEN

# Variance and fourth moment of u, by distribution.
MOMENTS = {"uniform": (1 / 3, 1 / 5), "gaussian": (1.0, 3.0), "rademacher": (1.0, 1.0)}
ALL = [(d, s) for d in MOMENTS for s in ("raw", "matched")]


def noise_of(distribution: Any, scale: Any, seed: int, **axes: Any) -> Tensor:
    zero, mask = torch.zeros(DOCUMENTS, LENGTH, HIDDEN, dtype=torch.float64), torch.ones(DOCUMENTS, LENGTH)
    generators = noise_generators(seed, 0, range(DOCUMENTS))
    return perturb(zero, mask, Noise(distribution, ALPHA, scale, **axes), generators)


def moments(distribution: str, scale: str) -> tuple[float, float]:
    variance, fourth = MOMENTS[distribution]
    shrink = 1.0 if scale == "raw" else 1 / 3 / variance
    return variance * shrink, fourth * shrink**2


@pytest.mark.parametrize(("distribution", "scale"), ALL)
def test_mean_zero_and_the_stated_variance(distribution: str, scale: str) -> None:
    unit = noise_of(distribution, scale, seed=1) * math.sqrt(SIZE) / ALPHA
    variance, fourth = moments(distribution, scale)
    entries = unit.numel()
    assert abs(unit.mean().item()) < Z * math.sqrt(variance / entries)
    # Var(u^2) = E u^4 - (E u^2)^2; zero for signs, where only rounding is left.
    spread = math.sqrt(max(fourth - variance**2, 0.0) / entries)
    assert abs(unit.square().mean().item() - variance) < Z * spread + 1e-12


@pytest.mark.parametrize(("distribution", "scale"), ALL)
def test_the_norm_of_a_document_is_alpha_or_alpha_over_root_three(distribution: str, scale: str) -> None:
    norms = noise_of(distribution, scale, seed=2).flatten(1).norm(dim=1)
    variance, fourth = moments(distribution, scale)
    expected = ALPHA * math.sqrt(variance)
    if distribution == "rademacher":
        torch.testing.assert_close(norms, torch.full_like(norms, expected), rtol=1e-12, atol=0)
        return
    # norm^2 = alpha^2 mean(u^2): by the delta method sd(norm) = alpha sd(u^2) / (2 sqrt(variance size)), and
    # the mean lies lower by a term of second order, sd^2 / (2 expected).
    sd = ALPHA * math.sqrt((fourth - variance**2) / SIZE) / (2 * math.sqrt(variance))
    bias = sd**2 / (2 * expected)
    assert abs(norms.mean().item() - expected + bias) < Z * sd / math.sqrt(DOCUMENTS) + bias / 2
    assert norms.std() > 0


@pytest.mark.parametrize("distribution", list(MOMENTS))
def test_documents_halves_and_steps_are_independent(distribution: str) -> None:
    noises = {
        "first": noise_of(distribution, "raw", seed=3),
        "other seed": noise_of(distribution, "raw", seed=4),
    }
    halves = noise_of(distribution, "raw", seed=3, pair="independent").chunk(2)
    pairs = [
        (noises["first"], noises["other seed"]),
        halves,
        (noises["first"], noises["first"].roll(1, 0)),  # neighbouring documents
        (noises["first"], noises["first"].roll(1, 1)),  # neighbouring tokens
        (noises["first"], noises["first"].roll(1, 2)),  # neighbouring entries
    ]
    for one, other in pairs:
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()
        # Correlation of independent entries: standard error 1 / sqrt(n).
        assert abs(correlation) < Z / math.sqrt(one.numel())


def test_the_uniform_stays_within_its_bounds_and_fills_them() -> None:
    unit = noise_of("uniform", "raw", seed=5) * math.sqrt(SIZE) / ALPHA
    assert unit.abs().max() <= 1 + 1e-12
    assert unit.max() > 0.998  # 0.999**24576: 2e-11 for a seed at random
    assert unit.min() < -0.998


def test_every_bit_of_a_random_word_is_fair() -> None:
    # random_() without bounds leaves bit 63 zero: each 64th sign would be the same.
    words = 20_000
    signs = draw("rademacher", (words, 64), 1.0, torch.Generator().manual_seed(6), torch.float32)
    assert signs.unique().tolist() == [-1.0, 1.0]
    assert signs.mean(0).abs().max().item() < Z / math.sqrt(words)
    # No bit repeats another: off-diagonal correlations, standard error 1 / sqrt(words).
    correlations = torch.corrcoef(signs.T).fill_diagonal_(0)
    assert correlations.abs().max().item() < Z / math.sqrt(words)


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (64,), (65,), (3, 5, 7)])
def test_signs_of_any_number(shape: tuple[int, ...]) -> None:
    signs = draw("rademacher", shape, 0.5, torch.Generator().manual_seed(7), torch.float64)
    assert signs.shape == shape
    assert torch.equal(signs.abs(), torch.full(shape, 0.5, dtype=torch.float64))


def test_dropout_drops_at_its_rate() -> None:
    rate, entries = 0.1, 100_000
    change = draw("dropout", (entries,), rate, torch.Generator().manual_seed(8), torch.float64)
    dropped = (change == -1).double().mean().item()
    assert abs(dropped - rate) < Z * math.sqrt(rate * (1 - rate) / entries)
    torch.testing.assert_close(change[change != -1].unique(), torch.tensor([rate / (1 - rate)]).double())


# The pair and a quadratic loss


def test_the_pair_cancels_the_first_order_exactly_and_keeps_half_ehe() -> None:
    """loss(x) = c + g'x + x'Hx / 2: the mean over X + e and X - e exceeds loss(X) by e'He / 2, no more."""
    generator = torch.Generator().manual_seed(0)
    H = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
    g = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    X = torch.tensor([[[0.5, -1.0, 2.0]]], dtype=torch.float64)
    mask = torch.ones(1, 1)

    def loss(x: Tensor) -> Tensor:
        return 1.0 + x @ g + 0.5 * torch.einsum("...i,ij,...j->...", x, H, x)

    # alpha sqrt(3) with L d = 3: every entry of e is +1 or -1.
    noise = Noise("rademacher", math.sqrt(3), pair="antithetic")
    for _ in range(8):
        plus, minus = perturb(X, mask, noise, generator)[:, 0]
        e = plus - X[0, 0]
        assert e.abs().tolist() == pytest.approx([1.0] * 3, abs=1e-12)
        # By hand: e'He = 2 + 3 + 1 + 2 (e1 e2 * 1 + e2 e3 * 0.5).
        by_hand = 6 + 2 * (e[0] * e[1] + 0.5 * e[1] * e[2])
        pair_mean = (loss(plus) + loss(minus)) / 2
        assert (pair_mean - loss(X[0, 0])).item() == pytest.approx(0.5 * by_hand.item(), abs=1e-12)
        # One-sided noise keeps the first-order term (g + HX)'e.
        first_order = (g + H @ X[0, 0]) @ e
        assert (loss(plus) - pair_mean).item() == pytest.approx(first_order.item(), abs=1e-12)
        assert abs(first_order) > 1


def test_the_gradient_of_the_pair_has_no_gradient_noise_on_a_quadratic() -> None:
    # d/dX of the mean over the pair of a quadratic is the clean gradient; one-sided noise adds He.
    H = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    X = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64, requires_grad=True)
    noise, generator = Noise("rademacher", pair="antithetic"), torch.Generator().manual_seed(1)
    both = perturb(X, torch.ones(1, 1), noise, generator)
    (0.5 * torch.einsum("bli,ij,blj->b", both, H, both)).mean().backward()
    assert X.grad is not None
    torch.testing.assert_close(X.grad[0, 0], H @ X.detach()[0, 0], rtol=1e-14, atol=1e-14)


# Keys


def test_a_key_repeats_and_any_other_differs() -> None:
    def numbers(*key: Any) -> list[float]:
        seed, step, identity = key
        return torch.rand(4, generator=noise_generators(seed, step, [identity])[0]).tolist()

    keys = [(0, 0, 5), (1, 0, 5), (0, 1, 5), (0, 0, 6), (0, 0, (5, 0)), (0, 0, (0, 0, 5)), (0, 0, (0, 5, 0))]
    keys += [(0, 50, 0), (5, 0, 0), (-1, 0, 5), (2**70, 0, 5)]
    drawn = [numbers(*key) for key in keys]
    assert drawn == [numbers(*key) for key in keys]
    assert len({tuple(d) for d in drawn}) == len(keys)


def test_a_key_is_the_same_on_every_machine() -> None:
    # Pinned: a change here changes every published run.
    seeds = [generator.initial_seed() for generator in noise_generators(0, 1, [2, (3, 4, 5)])]
    assert seeds == [15746002965534573126, 5523650362313587980]


# Measuring


def test_realised_noise_by_hand() -> None:
    tokens = Tokens(torch.tensor([[1, 1, 0]]), torch.tensor([[0, 1, 1]]))
    before = torch.tensor([[[[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]]]])
    after = before + torch.tensor([[[[0.3, 0.4], [0.0, 0.0], [0.0, 9.0]]]])
    found = realised_noise(before, after, tokens)
    torch.testing.assert_close(found.norm, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(found.ratio, torch.tensor([[0.1, 0.0]]))
    assert (found.noised, found.noised_padding) == (0.5, 1)
    assert found.summary()["noise/norm"] == pytest.approx(0.25)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"none"}))
def test_realised_noise_of_the_presets(name: str) -> None:
    noise = Noise(**PRESETS[name])
    X, mask = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0)), torch.ones(4, 9)
    mask[1, 6:] = 0
    after = perturb(X, mask, noise, noise_generators(0, 0, range(4))).unflatten(0, (noise.halves, 4))
    found = realised_noise(X[None], after, Tokens(mask))
    assert found.norm.shape == (noise.halves, 4)
    assert found.noised == 1.0
    assert (found.noised_padding == 3) == (noise.length == "padded")
    if noise.distribution == "rademacher":
        expected = torch.full_like(found.norm, 5.0 if noise.scale == "raw" else 5 / math.sqrt(3))
        if noise.scale == "relative":
            expected *= torch.stack([row[real == 1].norm(dim=1).mean() for row, real in zip(X, mask, strict=True)])
        torch.testing.assert_close(found.norm, expected)
