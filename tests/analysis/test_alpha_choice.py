"""Choosing alpha on one half of the instructions and reporting it on the other."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import stats


def test_alpha_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    choosing_I = np.array([True, True, False, False])
    values_SI = {5.0: np.array([[60.0, 60, 10, 20]]), 10.0: np.array([[50.0, 50, 90, 90]])}
    choice = stats.choose_alpha(values_SI, choosing_I)
    assert (choice.alpha, choice.held_out.mean) == (5.0, 15.0)
    assert (choice.on_test, choice.on_test_mean) == (10.0, 70.0)


def test_equal_alphas_choose_the_smaller() -> None:
    values_SI = {10.0: np.ones((1, 2)), 5.0: np.ones((1, 2))}
    assert stats.choose_alpha(values_SI, np.array([True, False])).alpha == 5.0


@pytest.mark.parametrize("choosing", [[True, True], [False, False]])
def test_an_empty_half_is_refused(choosing: list[bool]) -> None:
    with pytest.raises(ValueError, match="of 2 instructions to choose on"):
        stats.choose_alpha({1.0: np.ones((1, 2))}, np.array(choosing))


def test_choosing_on_the_test_set_is_optimistic_and_halves_are_not() -> None:
    """Five alphas, all equally good: the papers' way reports more than the truth, the held-out half does not."""
    generator = np.random.default_rng(11)
    choosing_I = np.arange(80) % 2 == 0
    honest, optimistic = [], []
    for _ in range(300):
        values_SI = {float(a): 100.0 * (generator.random((1, 80)) < 0.5) for a in range(1, 6)}
        choice = stats.choose_alpha(values_SI, choosing_I)
        honest.append(choice.held_out.mean)
        optimistic.append(choice.on_test_mean)
    # truth 50; a mean of 300 draws has a standard error of 0.5 (halves) and 0.2 points
    assert np.mean(honest) == pytest.approx(50, abs=1.8)
    assert np.mean(optimistic) > 54


def test_the_choosing_half_depends_on_the_text_alone() -> None:
    texts = [f"Question {i}" for i in range(1000)]
    half_I = stats.choosing_half(texts)
    assert 430 < half_I.sum() < 570  # binomial, 4.4 standard deviations
    assert (stats.choosing_half(texts[::-1])[::-1] == half_I).all()
