"""Run-level statistics against hand-computed cases, scipy, and simulations with a stated false-alarm probability."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis import stats
from analysis.stats import Estimate
from analysis.stats import student_t as student

# Three seeds answer two questions.
TABLE_SI = np.array([[10.0, 30.0], [20.0, 40.0], [30.0, 80.0]])


def test_mean_over_seeds_by_hand() -> None:
    found = stats.mean_over_seeds(np.array([1.0, 2.0, 6.0]))
    # sd = sqrt(7), error = sqrt(7/3); t(0.975, 2) = 4.302652730
    assert found.mean == 3.0
    assert found.error == pytest.approx(np.sqrt(7 / 3))
    assert found.high == pytest.approx(3 + 4.302652730 * np.sqrt(7 / 3), rel=1e-5)
    assert (found.runs, found.instructions, found.freedom) == (3, 0, 2)


def test_one_run_has_a_mean_and_no_interval() -> None:
    found = stats.mean_over_seeds(np.array([4.0]))
    assert found.mean == 4.0
    assert np.isnan([found.error, found.low, found.high]).all()
    assert np.isnan(stats.p_value(found))
    assert np.isnan(stats.minimum_detectable_effect(found))


def test_two_way_interval_by_hand() -> None:
    found = stats.mean_over_seeds_and_instructions(TABLE_SI)
    # mean 35; seed means 20, 30, 55; question means 20, 50. MS_seeds = 2 (225 + 25 + 400) / 2 = 650,
    # MS_questions = 3 (225 + 225) / 1 = 1350, rest = +-5, +-5, -+10 -> 300 / 2 = 150.
    combined = 650 + 1350 - 150
    assert found.mean == 35.0
    assert found.error == pytest.approx(np.sqrt(combined / 6))
    assert found.freedom == pytest.approx(combined**2 / (650**2 / 2 + 1350**2 / 1 + 150**2 / 2))
    assert (found.runs, found.instructions) == (3, 2)


def test_freedom_is_at_least_that_of_the_smaller_factor() -> None:
    """Satterthwaite's formula gives 0.5 here: the subtracted mean square is larger than the rest."""
    found = stats.mean_over_seeds_and_instructions(np.array([[0.0, 10.0, 0.0, 11.0], [10.0, 0.0, 12.0, 0.0]]))
    assert found.freedom == 1
    assert found.high - found.mean == pytest.approx(12.706204736 * found.error, rel=1e-5)


def test_one_seed_is_the_usual_standard_error_over_instructions() -> None:
    wins_I = np.array([0.0, 100.0, 100.0, 50.0])
    found = stats.mean_over_seeds_and_instructions(wins_I[None, :])
    assert found.error == pytest.approx(wins_I.std(ddof=1) / 2)
    assert (found.runs, found.instructions, found.freedom) == (1, 4, 3)


def test_a_negative_component_does_not_narrow_the_interval() -> None:
    opposed_SI = np.array([[0.0, 10.0, 0.0, 11.0], [10.0, 0.0, 12.0, 0.0]])
    found = stats.mean_over_seeds_and_instructions(opposed_SI)
    means_I = opposed_SI.mean(axis=0)
    assert found.error >= means_I.std(ddof=1) / np.sqrt(4) - 1e-12
    assert found.error > 0


@given(
    st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=2, max_size=5),
    st.floats(-50, 50),
)
@settings(max_examples=30, deadline=None)
def test_intervals_move_with_the_data(rows: list[list[float]], shift: float) -> None:
    values_SI = np.round(np.array(rows), 3)
    assume(np.ptp(values_SI) > 0)
    here = stats.mean_over_seeds_and_instructions(values_SI)
    there = stats.mean_over_seeds_and_instructions(values_SI + shift)
    # 1e-6: squares of numbers up to 150 cancel in double precision
    assert there.low - here.low == pytest.approx(shift, abs=1e-6)
    assert there.high - here.high == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize("values", [np.full((2, 2), 0.1), np.full((3, 5), 100.0), np.full((1, 4), 1 / 3)])
def test_values_without_spread_have_no_interval_and_no_p_value(values: stats.Array) -> None:
    """Two instructions won by both seeds are no proof that every instruction would be."""
    for found in (stats.mean_over_seeds_and_instructions(values), stats.mean_over_seeds(values[:, 0])):
        assert found.mean == pytest.approx(values[0, 0])
        assert np.isnan([found.low, found.high, stats.p_value(found), stats.minimum_detectable_effect(found)]).all()
    assert stats.p_value(stats.mean_over_seeds_and_instructions(0 * values)) == 1.0


def simulate(generator: np.random.Generator, seed_effect: float, seeds: int = 3, items: int = 60) -> stats.Array:
    """Differences to a baseline that is equally good: seed, instruction and residual effects around zero."""
    return (
        generator.normal(0, seed_effect, (seeds, 1))
        + generator.normal(0, 20, (1, items))
        + generator.normal(0, 40, (seeds, items))
    )


@pytest.mark.parametrize("seed_effect", [0.0, 5.0, 30.0])
def test_false_alarms_of_the_paired_comparison(seed_effect: float) -> None:
    generator = np.random.default_rng(7)
    draws = 400
    found = [stats.mean_over_seeds_and_instructions(simulate(generator, seed_effect)) for _ in range(draws)]
    alarms = np.mean([stats.p_value(each) < 0.05 for each in found])
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    # If the true rate were 0.10, fewer than one in 10,000 repetitions of this simulation would exceed 0.16; the
    # seed is fixed, so the test does not flicker. Measured with 2,000 draws: 0.03 to 0.09.
    assert alarms <= 0.16
    assert covered >= 0.84
    assert covered == pytest.approx(1 - alarms, abs=0.006)  # interval and test are one statement


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.4), (3, 0.4), (3, 0.1), (5, 0.1)])
def test_false_alarms_of_a_whole_table_after_holm(seeds: int, spread: float) -> None:
    """Eight noises without effect beside one baseline; seeds move a win rate by about two or eight points."""
    generator = np.random.default_rng(2)
    alarms = 0
    for _ in range(150):
        logits = generator.normal(0, 1.2, 100) + generator.normal(0, spread, (9, seeds, 1))
        wins = 100.0 * (generator.random((9, seeds, 100)) < 1 / (1 + np.exp(-logits)))
        found = [stats.mean_over_seeds_and_instructions(ours - wins[0]) for ours in wins[1:]]
        p_values = np.array([stats.p_value(each) for each in stats.with_shared_scatter(found)])
        alarms += np.nanmin(stats.holm(p_values)) < 0.05
    # promised: 5%; then more than 15 of 150 have a chance of one in 200, and the seed is fixed. Without the shared
    # scatter the first case has a false alarm in a third of the tables.
    assert alarms / 150 <= 0.1


def test_shared_scatter_by_hand() -> None:
    """Seeds' components 20 (of 2 seeds) and 0 (of 3): weighted by 1 and 2 it is 20/3, with 1.5 * 1.5 degrees."""
    large = Estimate(5.0, 9.0, -1, 11, 2, 10, 3.0, (300.0, 200.0, 100.0))
    small = Estimate(5.0, 2.0, 1, 9, 3, 10, 50.0, (100.0, 200.0, 100.0))
    single = Estimate(5.0, 4.0, -3, 13, 1, 10, 9.0, (np.nan, 160.0, np.nan))
    over_seeds = Estimate(5.0, 2.0, 1, 9, 3, 0, 2.0)
    equal = Estimate(5.0, 0.0, np.nan, np.nan, 3, 10, 2.0)
    found = stats.with_shared_scatter([large, small, single, over_seeds, equal])
    assert (found[0], found[3], found[4]) == (large, over_seeds, equal)
    seeds = 10 * 20 / 3 + 100
    combined = seeds + 200 - 100
    assert found[1].error == pytest.approx(np.sqrt(combined / 30))
    assert found[1].freedom == pytest.approx(combined**2 / (seeds**2 / 2.25 + 200**2 / 9 + 100**2 / 18))
    assert (found[1].mean, found[1].low, found[1].high) == (5.0, 1, 9)
    assert found[2].error == pytest.approx(np.sqrt(16 + 20 / 3))
    assert found[2].freedom == pytest.approx((16 + 20 / 3) ** 2 / (16**2 / 9 + (20 / 3) ** 2 / 2.25))
    assert stats.with_shared_scatter([single, equal]) == [single, equal]


def test_pooled_scatter_by_hand() -> None:
    """Components 20 and 0 of three seeds each: their mean 10 takes the place of both, with 2 * 1.5 degrees."""
    large = Estimate(5.0, 2.6, -1, 11, 3, 10, 3.0, (300.0, 120.0, 100.0))
    small = Estimate(1.0, 2.0, -3, 5, 3, 10, 50.0, (100.0, 120.0, 100.0))
    other = Estimate(1.0, 2.0, -3, 5, 3, 10, 50.0, (900.0, 120.0, 100.0))
    found = stats.with_pooled_scatter([large, other, small], ["5", "1", "5"])
    assert found[1] == other  # of another kind
    for each, mean in ((found[0], 5.0), (found[2], 1.0)):
        combined = 200 + 120 - 100
        freedom = combined**2 / (200**2 / 3 + 120**2 / 9 + 100**2 / 18)
        assert each.squares == pytest.approx((200, 120, 100))
        assert each.error == pytest.approx(np.sqrt(combined / 30))
        assert each.freedom == pytest.approx(freedom)
        assert each.mean == mean
        assert each.high - mean == pytest.approx(student.quantile(0.975, freedom) * each.error)
        assert mean - each.low == pytest.approx(each.high - mean)


def test_a_difference_that_scatters_far_more_is_not_pooled() -> None:
    """F is 8,000 / 100 with 2 and 3 degrees: far beyond the tenth (5.5). The others get the mean of all: 8,200 / 3."""
    small = Estimate(1.0, 2.0, -3, 5, 3, 10, 50.0, (80.0, 120.0, 100.0))
    equal = Estimate(1.0, 2.0, -3, 5, 3, 10, 50.0, (120.0, 120.0, 100.0))
    wild = Estimate(1.0, 16.0, -60, 60, 3, 10, 2.1, (8000.0, 120.0, 100.0))
    found = stats.with_pooled_scatter([small, equal, wild], ["5"] * 3)
    assert found[2] == wild
    assert [each.squares[0] for each in found[:2]] == pytest.approx([8200 / 3, 8200 / 3])
    assert stats.with_pooled_scatter([small, wild], ["5"] * 2)[1] == wild
    assert stats.with_pooled_scatter([small], ["5"]) == [small]


def test_one_comparison_shares_with_nobody() -> None:
    found = stats.mean_over_seeds_and_instructions(TABLE_SI)
    assert found.squares == pytest.approx((650, 1350, 150))
    assert stats.with_shared_scatter([found]) == [found]


def test_a_real_difference_is_found_at_about_the_detectable_size() -> None:
    generator = np.random.default_rng(3)
    size = stats.minimum_detectable_effect(stats.mean_over_seeds_and_instructions(simulate(generator, 2.0)))
    found = [stats.mean_over_seeds_and_instructions(size + simulate(generator, 2.0)) for _ in range(200)]
    power = np.mean([stats.p_value(each) < 0.05 for each in found])
    # 80% by construction, up to the noise of one estimated standard error
    assert 0.6 < power < 0.97


@pytest.mark.parametrize(
    ("freedom", "factor"), [(1, 39), (2, 8.80), (3, 5.71), (4, 4.69), (7, 3.69), (15, 3.17), (1e6, 2.8016)]
)
def test_minimum_detectable_effect_in_standard_errors(freedom: float, factor: float) -> None:
    """80% on average at 5%: by simulation (2 million draws give 79.9 to 80.1% there); the last from the normal."""
    assert stats.detectable_factor(freedom) == pytest.approx(factor, rel=0.004)
    found = Estimate(0.0, 2.0, -1, 1, 3, 10, freedom=freedom)
    assert stats.minimum_detectable_effect(found) == pytest.approx(2 * stats.detectable_factor(freedom))


@pytest.mark.parametrize(("freedom", "level"), [(1, 0.05), (2, 0.05), (2, 0.01), (4, 0.05 / 8), (6.5, 0.05)])
def test_what_the_minimum_detectable_effect_promises(freedom: float, level: float) -> None:
    """Studies that name it from their own standard error, and repetitions that estimate another: 80% find it."""
    generator = np.random.default_rng(4)
    named, repeated = np.sqrt(generator.chisquare(freedom, (2, 400_000)) / freedom)
    statistics = (generator.normal(size=400_000) + stats.detectable_factor(freedom, level=level) * named) / repeated
    found = np.mean(np.abs(statistics) > student.quantile(1 - level / 2, freedom))
    assert found == pytest.approx(0.8, abs=0.004)  # six standard errors of 400,000 draws


def test_equivalence_by_hand() -> None:
    """Two one-sided tests: (2 - 0.5) / 0.5 = 3 with 4 degrees of freedom, p = 0.0200; at the margin it is one half."""
    found = Estimate(0.5, 0.5, -1, 2, 5, 0, 4.0)
    assert stats.equivalence_p_value(found, 2.0) == pytest.approx(0.019970984, rel=1e-6)
    assert stats.equivalence_p_value(found, 0.5) == pytest.approx(0.5)
    assert stats.equivalence_p_value(found, 0.1) > 0.5
    assert np.isnan(stats.equivalence_p_value(Estimate(0.5, 0.0, -1, 2, 5), 2.0))


def test_seeds_needed_by_hand() -> None:
    """Over seeds alone: with 8 seeds (t(0.95, 7) + t(0.9, 7)) * sqrt(3 / 8) = 2.02, with 9 it is 1.88 < 2.

    A measured 2.5 beyond the margin: with 6 seeds (t(0.975, 5) + t(0.8, 5)) * sqrt(3 / 6) = 2.47, with 5 it is 2.88.
    """
    found = Estimate(0.5, 1.0, -1, 2, 3, 0, 2.0)
    assert stats.seeds_needed(found, 2.0) == 9
    assert stats.seeds_needed(found, 0.5) == 105  # at the margin: not beyond it
    assert stats.seeds_needed(Estimate(-2.5, 1.0, -4, -1, 3, 0, 2.0), 2.0) == 6
    assert stats.seeds_needed(Estimate(0.05, 1.0, -1, 2, 3, 0, 2.0), 0.001) is None
    assert stats.seeds_needed(Estimate(0.5, np.nan, np.nan, np.nan, 1), 2.0) is None


def test_differences_to_another_control_share_no_scatter() -> None:
    large = Estimate(5.0, 9.0, -1, 11, 2, 10, 3.0, (300.0, 200.0, 100.0))
    small = Estimate(5.0, 2.0, 1, 9, 3, 10, 50.0, (100.0, 200.0, 100.0))
    assert stats.with_shared_scatter([large, small], ["none", "neftune"]) == [large, small]
    assert stats.with_shared_scatter([large, small], ["none", "none"])[1].error > small.error


def test_student_against_scipy() -> None:
    reference = pytest.importorskip("scipy.stats").t
    for freedom, probability in itertools.product((1, 1.5, 2, 3.7, 30, 5e4, 1e7), (0.2, 0.9, 0.975, 0.9995)):
        expected = reference.ppf(probability, freedom)
        assert student.quantile(probability, freedom) == pytest.approx(expected, rel=1e-9), (freedom, probability)
    for freedom, statistic in itertools.product((1, 1.5, 2, 30, 5e4, 1e7), (-3.0, 0.1, 1.0, 8.0)):
        expected = 2 * reference.sf(abs(statistic), freedom)
        assert student.p_value(statistic, freedom) == pytest.approx(expected, rel=1e-9), (freedom, statistic)


def test_holm_by_hand() -> None:
    """Holm 1979: sorted p-values times 4, 3, 2, 1, never decreasing."""
    found = stats.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested() -> None:
    found = stats.holm(np.array([0.02, np.nan, 0.9]))
    assert found[[0, 2]] == pytest.approx([0.04, 0.9])
    assert np.isnan(found[1])
    assert stats.holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
