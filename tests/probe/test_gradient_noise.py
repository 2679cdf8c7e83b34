"""Even part, odd part and sampling noise of the gradient: a quadratic with a known Hessian, and a small Llama."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model

from harness.config import GradientConfig
from harness.data.batching import Document
from harness.probe.gradient_noise import Gradient, ModelGradient, figures_of, gradient_noise, rows_of_twos
from harness.probe.smoothness.surface import probing

ALPHAS = (0.5, 2.0)


class Quadratic:
    """l(w; X + e) = 1/2 sum over i of w_i (x_i + e_i)^2: its Hessian by X is diag(w), its gradient by w (x + e)^2 / 2.

    With signs e = alpha b the even part is alpha^2 / 2 in every entry, the gradient of e'He / 2, whatever the draw; the
    odd part is alpha b x, of squared norm alpha^2 |x|^2.
    """

    def __init__(self, x: Sequence[float]) -> None:
        self.x = torch.tensor(x)

    def __call__(self, alpha: float = 0.0, draw: int = 0, sign: int = 1) -> tuple[float, Gradient]:
        bits = torch.randint(2, self.x.shape, generator=torch.Generator().manual_seed(draw))
        moved = self.x + sign * alpha * (2.0 * bits - 1)
        return float(moved.square().sum() / 2), [moved.square() / 2]


def test_a_quadratic_of_known_hessian_by_hand() -> None:
    two = (Quadratic([1.0, 2.0, 0.0]), Quadratic([3.0, 0.0, 2.0]))
    (row,) = rows_of_twos([two], ALPHAS, draws=3)
    # Gradients (1, 4, 0) / 2 and (9, 0, 4) / 2: product 9 / 4; difference (-8, 4, -4) / 2, squared 24, halved 12.
    assert row["squared_gradient"] == pytest.approx(9 / 4)
    assert row["sampling"] == pytest.approx(12)
    assert row["loss"] == pytest.approx((5 / 2 + 13 / 2) / 2)
    for alpha in ALPHAS:
        assert row[f"odd/{alpha:g}"] == pytest.approx(alpha**2 * (5 + 13) / 2, rel=1e-6)
        assert row[f"even/{alpha:g}"] == pytest.approx(3 * (alpha**2 / 2) ** 2, rel=1e-6)
        assert row[f"even_noise/{alpha:g}"] == pytest.approx(0, abs=1e-9)
        # Along the gradient of the other batch: alpha^2 / 2 times the sum of its entries, 13 / 2 and 5 / 2.
        assert row[f"even_along/{alpha:g}"] == pytest.approx(alpha**2 / 2 * 9 / 2, rel=1e-6)
        assert row[f"loss/{alpha:g}"] - row["loss"] == pytest.approx(3 * alpha**2 / 2, rel=1e-6)  # e'He / 2 at w = 1


class Gaussian(Quadratic):
    """The same with normal entries: the even part e^2 / 2 has the variance alpha^4 / 2 in each."""

    def __call__(self, alpha: float = 0.0, draw: int = 0, sign: int = 1) -> tuple[float, Gradient]:
        drawn = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(draw + 1000 * int(self.x[0])))
        moved = self.x + sign * alpha * drawn
        return float(moved.square().sum() / 2), [moved.square() / 2]


def test_the_scatter_of_the_even_part_is_its_variance() -> None:
    size, draws = 400, 40
    two = (Gaussian([1.0] * size), Gaussian([2.0] * size))
    (row,) = rows_of_twos([two], (1.0,), draws)
    # Six standard errors: the variance of (e^2 - 1)^2 / 4 is (60 - 4) / 16 = 3.5 an entry and draw.
    assert row["even_noise/1"] == pytest.approx(size / 2, abs=6 * math.sqrt(3.5 * size / draws))
    assert row["even/1"] == pytest.approx(size / 4, abs=6 * math.sqrt(2 * size / 4 / draws))


def test_figures_are_ratios_of_means_with_intervals_over_the_twos() -> None:
    rows = [
        {"two": 0, "loss": 1.0, "sampling": 2.0, "squared_gradient": 4.0, "odd/5": 1.0, "even/5": 1.0, "loss/5": 1.5},
        {"two": 1, "loss": 3.0, "sampling": 6.0, "squared_gradient": 4.0, "odd/5": 2.0, "even/5": 3.0, "loss/5": 3.1},
    ]
    found = figures_of(rows, "probe/gradient/base")
    share = found["probe/gradient/base/odd_share/5"]
    assert share["mean"] == pytest.approx(3 / 8)  # not the mean of 1/2 and 1/3
    assert (share["low"], share["high"], share["n"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2), 2)
    assert found["probe/gradient/base/even_share/5"]["mean"] == pytest.approx(0.5)
    assert found["probe/gradient/base/loss_rise/5"]["mean"] == pytest.approx(0.3)


def documents(count: int) -> list[Document]:
    random = np.random.default_rng(0)
    found = []
    for index in range(count):
        ids = random.integers(2, VOCABULARY, size=random.integers(6, 14))
        found.append(Document(index, ids, np.where(np.arange(len(ids)) < 3, -100, ids)))
    return found


def settings(**changes: Any) -> GradientConfig:
    return GradientConfig(**{"twos": 2, "batch_size": 2, "draws": 2, "alphas": [0.02, 0.04]} | changes)


def test_a_model_expands_as_theory_says_and_is_left_as_it_was() -> None:
    model = tiny_model("llama", torch.float64)
    model.train()
    model.lm_head.weight.requires_grad_(False)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    rows = gradient_noise(model, documents(9), settings(), seed=0, max_tokens=64)
    assert [row["two"] for row in rows] == [0, 1]
    found = figures_of(rows, "p")
    # Twice the strength: four times the odd part's square, sixteen times the even part's.
    assert found["p/odd/0.04"]["mean"] / found["p/odd/0.02"]["mean"] == pytest.approx(4, rel=0.01)
    for key in ("even", "even_noise"):
        assert found[f"p/{key}/0.04"]["mean"] / found[f"p/{key}/0.02"]["mean"] == pytest.approx(16, rel=0.05)
    assert model.training
    assert not model.lm_head.weight.requires_grad
    assert all(each.grad is None for each in model.parameters())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_the_gradient_is_that_of_the_batch_in_any_micro_batches() -> None:
    """Sum over response tokens by their number, as training has it, noise and all."""
    with probing(tiny_model("llama", torch.float64)) as objective:
        whole, parts = (ModelGradient(objective, documents(4), settings(), 0, tokens) for tokens in (512, 14))
        assert len(parts.batches) > len(whole.batches)
        for alpha, sign in ((0.0, 1), (3.0, 1), (3.0, -1)):
            loss, gradient = whole(alpha, 1, sign)
            again, in_parts = parts(alpha, 1, sign)
            assert again == pytest.approx(loss, rel=1e-12)
            for one, other in zip(gradient, in_parts, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
