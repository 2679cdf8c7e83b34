"""Each probe on functions whose answer is known: quadratic and linear, in float64."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from harness.probe.predictions import BINS, confidence_bins, document_row, expected_calibration_error
from harness.probe.smoothness.differences import differences
from harness.probe.smoothness.directions import at_radius, direction, norms
from harness.probe.smoothness.hessian import Expansion, gradient_norms, top_eigenvalues, trace_samples
from harness.probe.smoothness.surface import Predictions
from harness.probe.summary import calibration_figure, figures, flat, gap_figure, mean_figure

ROWS, TOKENS, WIDTH = 2, 3, 2
SIZE = TOKENS * WIDTH
EXACT = {"rtol": 1e-9, "atol": 1e-12}  # float64, a few dozen operations


@pytest.fixture
def quadratic():
    """Losses 10 + g.e + e'He / 2 of two documents with their own g and symmetric H."""
    torch.manual_seed(0)
    g_BS = torch.randn(ROWS, SIZE, dtype=torch.float64)
    half_BSS = torch.randn(ROWS, SIZE, SIZE, dtype=torch.float64)
    h_BSS = half_BSS + half_BSS.mT
    h_BSS[1] -= 6 * torch.eye(SIZE, dtype=torch.float64)  # its eigenvalue of largest absolute value is negative

    def losses(e_BTD):
        e_BS = e_BTD.flatten(1)
        return 10 + (g_BS * e_BS).sum(1) + torch.einsum("bi,bij,bj->b", e_BS, h_BSS, e_BS) / 2

    return losses, g_BS, h_BSS


def zeros():
    return torch.zeros(ROWS, TOKENS, WIDTH, dtype=torch.float64)


def answer_with(losses_N, rows_N):
    """Two-class logits (0, s) with target 0 and log(1 + exp s) = the loss asked for."""
    s_N = torch.log(torch.expm1(losses_N))
    return Predictions(torch.stack([torch.zeros_like(s_N), s_N], 1), torch.zeros(len(s_N), dtype=torch.long), rows_N)


def test_gradient_and_products_of_a_quadratic(quadratic):
    losses, g_BS, h_BSS = quadratic
    expansion = Expansion.of(losses, zeros())
    torch.testing.assert_close(gradient_norms(expansion), g_BS.norm(dim=1), **EXACT)
    vector = torch.randn(ROWS, TOKENS, WIDTH, dtype=torch.float64)
    expected = torch.einsum("bij,bj->bi", h_BSS, vector.flatten(1)).view_as(vector)
    torch.testing.assert_close(expansion.times(vector), expected, **EXACT)


def test_the_mean_over_all_signs_is_the_trace(quadratic):
    losses, _, h_BSS = quadratic
    signs = [
        torch.tensor(each, dtype=torch.float64).view(1, TOKENS, WIDTH).expand(ROWS, -1, -1)
        for each in product((-1.0, 1.0), repeat=SIZE)
    ]
    samples = trace_samples(Expansion.of(losses, zeros()), signs)
    assert samples.shape == (2**SIZE, ROWS)
    torch.testing.assert_close(samples.mean(0), h_BSS.diagonal(dim1=1, dim2=2).sum(1), **EXACT)


def test_power_iteration_finds_the_largest_absolute_eigenvalue_with_its_sign(quadratic):
    losses, _, h_BSS = quadratic
    torch.manual_seed(1)
    values, residuals = top_eigenvalues(Expansion.of(losses, zeros()), torch.randn_like(zeros()), 500)
    spectrum_BS = torch.linalg.eigvalsh(h_BSS)
    expected = spectrum_BS.gather(1, spectrum_BS.abs().argmax(1, keepdim=True)).squeeze(1)
    assert expected[1] < 0
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)
    assert (residuals < 1e-3).all()
    early, far = top_eigenvalues(Expansion.of(losses, zeros()), torch.randn_like(zeros()), 1)
    assert (early.abs() <= values.abs()).all()
    assert (far > residuals).all()


def test_a_linear_loss_has_no_curvature():
    g = torch.arange(1.0, SIZE + 1, dtype=torch.float64)
    expansion = Expansion.of(lambda e: (e.flatten(1) * g).sum(1), zeros())
    torch.testing.assert_close(gradient_norms(expansion), g.norm().expand(ROWS), **EXACT)
    values, residuals = top_eigenvalues(expansion, torch.ones_like(zeros()), 3)
    assert values.tolist() == residuals.tolist() == [0.0, 0.0]
    assert trace_samples(expansion, [torch.ones_like(zeros())]).tolist() == [[0.0, 0.0]]


def test_differences_of_a_quadratic_loss(quadratic):
    losses, g_BS, h_BSS = quadratic
    torch.manual_seed(2)
    e_BTD = 0.3 * torch.randn_like(zeros())
    # Two tokens in the first document, one in the second; both tokens of the first have the same loss.
    rows_N = torch.tensor([0, 0, 1])
    answers = [answer_with(losses(sign * e_BTD)[rows_N], rows_N) for sign in (0, 1, -1)]
    found = differences(*answers, norms(e_BTD))
    e_BS = e_BTD.flatten(1)
    first = (g_BS * e_BS).sum(1)
    second = torch.einsum("bi,bij,bj->b", e_BS, h_BSS, e_BS)
    norm = e_BS.norm(dim=1)
    torch.testing.assert_close(found["difference"], 2 * first.abs(), **EXACT)
    torch.testing.assert_close(found["slope"], first.abs() / norm, **EXACT)
    torch.testing.assert_close(found["curvature"], second / norm**2, **EXACT)
    torch.testing.assert_close(found["token_slope"], first.abs() / norm, **EXACT)
    torch.testing.assert_close(found["token_curvature"], second.abs() / norm**2, **EXACT)
    torch.testing.assert_close(found["loss"], 10 + second / 2, **EXACT)


def test_tokens_that_move_apart_cancel_in_the_document_but_not_per_token():
    rows_N, change = torch.tensor([0, 0]), torch.tensor([0.5, -0.5], dtype=torch.float64)
    at, up, down = (answer_with(2 + sign * change, rows_N) for sign in (0, 1, -1))
    found = differences(at, up, down, torch.tensor([1.0], dtype=torch.float64))
    assert found["slope"].item() == pytest.approx(0, abs=1e-12)
    assert found["token_slope"].item() == pytest.approx(0.5)


def test_differences_of_linear_logits():
    """z(e) = c + A e: the logits' slope is |A e| / |e| without its mean over the vocabulary, their curvature zero."""
    slope_V = torch.tensor([3.0, -1.0, 1.0], dtype=torch.float64)  # along the unit direction e; its mean is 1
    c_V = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)
    one, row = torch.tensor([1]), torch.tensor([0])
    at, up, down = (Predictions((c_V + sign * slope_V)[None], one, row) for sign in (0, 1, -1))
    found = differences(at, up, down, torch.tensor([1.0], dtype=torch.float64))
    assert found["logit_slope"].item() == pytest.approx(np.linalg.norm([2, -2, 0]))
    assert found["logit_curvature"].item() == pytest.approx(0, abs=1e-12)
    p, q = (torch.softmax(c_V + sign * slope_V, 0).numpy() for sign in (1, -1))
    assert found["symmetric_kl"].item() == pytest.approx(sum(p * np.log(p / q)) + sum(q * np.log(q / p)))
    assert found["flips"].item() == 0.5  # at X the second token is best, at X + e the first, at X - e the second


def test_directions_have_the_norm_of_their_radius_and_depend_on_the_document_alone():
    like = torch.zeros(2, 7, 5, dtype=torch.float64)
    both = direction("rademacher", 0, [3, 4], [7, 2], like, seed=0)
    alone = direction("rademacher", 0, [4], [2], torch.zeros(1, 2, 5, dtype=torch.float64), seed=0)
    assert both[1, :2].equal(alone[0])
    assert not both[1, 2:].any()
    assert set(both[0].flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(norms(at_radius(both, 5.0, [7, 2])), torch.full((2,), 5.0, dtype=torch.float64))
    for other in (
        direction("rademacher", 1, [4], [2], alone, seed=0),
        direction("trace", 0, [4], [2], alone, seed=0),
        direction("rademacher", 0, [4], [2], alone, seed=1),
        direction("rademacher", 0, [5], [2], alone, seed=0),
    ):
        assert not other.equal(alone)
    wide = torch.zeros(1, 400, 50)
    normal = direction("gaussian", 0, [0], [400], wide, seed=0)
    # 20,000 squares: a relative standard deviation of sqrt(2 / 20000) = 0.01 in the variance.
    assert normal.square().mean() == pytest.approx(1, abs=0.04)


def test_one_documents_predictions_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], dtype=torch.float64)
    row = document_row(Predictions(p.log(), torch.tensor([0, 0, 0, 1]), torch.zeros(4, dtype=torch.long)))
    assert row["tokens"] == 4
    assert row["loss"] == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.8]).mean())
    assert row["accuracy"] == 0.75
    assert row["confidence"] == pytest.approx((0.9 + 0.6 + 0.7 + 0.8) / 4)
    assert row["entropy"] == pytest.approx(-(p * p.log()).sum(1).mean().item())
    assert (row["continued"], row["exact"], row["exact_half"]) == (2, 0, 0)
    whole = document_row(Predictions(p.log(), torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)))
    assert (whole["continued"], whole["exact"], whole["exact_half"]) == (4, 1, 1)
    late = document_row(Predictions(p.log(), torch.tensor([1, 0, 1, 1]), torch.zeros(4, dtype=torch.long)))
    assert (late["continued"], late["exact"], late["exact_half"]) == (0, 0, 1)


def test_calibration_error_by_hand():
    """Two bins: 0.9 confident and half right (error 0.4, 4 tokens), 0.5 confident and all right (0.5, 1 token)."""
    bins = confidence_bins(torch.tensor([0.9, 0.9, 0.9, 0.9, 0.5, 1.0]), torch.tensor([1, 1, 0, 0, 1, 1]).bool())
    assert [row[0] for row in bins] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 1]
    expected = (4 * 0.4 + 1 * 0.5 + 1 * 0.0) / 6
    assert expected_calibration_error(np.array(bins)) == pytest.approx(expected, rel=1e-6)
    assert calibration_figure([bins, bins])["mean"] == pytest.approx(expected, rel=1e-6)


def test_calibration_interval_holds_its_estimate():
    rng = np.random.default_rng(0)
    bins = []
    for _ in range(20):  # perfectly calibrated documents of ten tokens: all error is sampling
        confidence = torch.from_numpy(rng.uniform(0.2, 1, 10))
        bins.append(confidence_bins(confidence, torch.from_numpy(rng.uniform(size=10)) < confidence))
    figure = calibration_figure(bins)
    assert figure["low"] < figure["mean"] < figure["high"]
    assert len(bins[0]) == BINS


def test_figures_count_examples_alike_and_tokens_alike():
    rows = [
        {"document": 0, "tokens": 1, "length": 9, "loss": 1.0},
        {"document": 1, "tokens": 3, "length": 9, "loss": 2.0},
    ]
    figure = figures(rows, "probe")["probe/loss"]
    assert (figure["mean"], figure["per_token"], figure["n"]) == (1.5, 1.75, 2)
    assert (figure["low"], figure["high"]) == (1.0, 2.0)
    assert flat({"probe/loss": figure})["probe/loss/per_token"] == 1.75
    assert "low" not in mean_figure([1.0])


def test_interval_of_a_mean_has_its_nominal_width():
    values = np.random.default_rng(0).normal(size=400)
    figure = mean_figure(values)
    # 2 x 1.96 standard errors; 2000 draws put the bounds within a few percent.
    assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * values.std(ddof=1) / 20, rel=0.1)


def test_gap_is_the_difference_per_token():
    train = [{"tokens": 1, "loss": 1.0}, {"tokens": 3, "loss": 2.0}]
    heldout = [{"tokens": 2, "loss": 3.0}, {"tokens": 2, "loss": 4.0}]
    figure = gap_figure(heldout, train)
    assert figure["mean"] == pytest.approx(3.5 - 1.75)
    assert figure["low"] < figure["mean"] < figure["high"]
