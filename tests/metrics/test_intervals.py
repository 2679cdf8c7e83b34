"""Intervals over instructions: hand-computed standard errors, known limits, reproducibility."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import cluster_bootstrap, cluster_standard_error, paired_bootstrap


def test_hand_computed_cluster_error() -> None:
    # mean 2; residual sums of the clusters: (-2) and (+2); sqrt(2/1 * (4 + 4)) / 4 = 1
    assert cluster_standard_error([1, 1, 3, 3], ["a", "a", "b", "b"]) == pytest.approx(1.0, abs=1e-12)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_one_row_per_cluster_is_the_usual_error(values: list[float]) -> None:
    usual = np.std(values, ddof=1) / math.sqrt(len(values))
    assert cluster_standard_error(values, range(len(values))) == pytest.approx(usual, abs=1e-9)


def test_repeating_every_row_within_its_cluster_changes_nothing() -> None:
    values, labels = [0.0, 1.0, 1.0, 0.5], ["a", "b", "c", "d"]
    once = cluster_standard_error(values, labels)
    assert cluster_standard_error(values * 3, labels * 3) == pytest.approx(once, abs=1e-12)
    single, tripled = cluster_bootstrap(values, labels), cluster_bootstrap(values * 3, labels * 3)
    assert (tripled["low"], tripled["high"]) == pytest.approx((single["low"], single["high"]), abs=1e-12)


def test_a_single_cluster_has_no_interval() -> None:
    result = cluster_bootstrap([1.0, 2.0], ["a", "a"])
    assert result["estimate"] == 1.5
    assert all(math.isnan(result[key]) for key in ("standard_error", "low", "high"))


def test_bootstrap_interval_of_a_large_sample_is_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(10.0, 2.0, size=800)
    result = cluster_bootstrap(values)
    expected = 1.959964 * values.std(ddof=1) / math.sqrt(800)
    # 6%: the Monte-Carlo error of a 2.5% quantile from 10,000 draws is about 2%, and the sample is not
    # exactly normal
    assert result["high"] - result["estimate"] == pytest.approx(expected, rel=0.06)
    assert result["estimate"] - result["low"] == pytest.approx(expected, rel=0.06)


def test_same_seed_same_interval_and_missing_rows_are_counted() -> None:
    values = [0.0, 1.0, math.nan, 1.0, 0.0, 1.0]
    first, again = cluster_bootstrap(values, seed=5), cluster_bootstrap(values, seed=5)
    assert first == again
    assert (first["n"], first["n_dropped"], first["n_clusters"]) == (5, 1, 5)
    assert first["estimate"] == pytest.approx(0.6)


def test_pairing_removes_what_both_sides_share() -> None:
    shared = np.random.default_rng(0).normal(size=200) * 50
    result = paired_bootstrap(shared + 1, shared)
    assert result["estimate"] == pytest.approx(1.0)
    # every difference is 1 but for rounding
    assert (result["low"], result["high"]) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_a_row_missing_on_one_side_is_left_out() -> None:
    result = paired_bootstrap([1.0, math.nan, 3.0], [0.0, 0.0, math.nan], clusters=["a", "b", "c"])
    assert (result["estimate"], result["n"], result["n_dropped"]) == (1.0, 1, 2)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence is 95"):
        cluster_bootstrap([1.0, 2.0], confidence=95)
    with pytest.raises(ValueError, match="draws is 0"):
        cluster_bootstrap([1.0, 2.0], draws=0)
    with pytest.raises(ValueError, match="clusters: 1 entries for 2"):
        cluster_bootstrap([1.0, 2.0], clusters=["a"])
    with pytest.raises(ValueError, match="control: 1 entries for 2"):
        paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="none of the 1 rows"):
        cluster_bootstrap([math.nan])
    with pytest.raises(ValueError, match="row 1 is NaN"):
        cluster_standard_error([1.0, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="at least 1"):
        cluster_bootstrap([])
