"""Win rates: hand-computed cases, the published row of alpaca-7b, and properties."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import length_matched_win_rate, win_fractions, win_rate, win_rate_by_category

ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
needs_data = pytest.mark.skipif(not ALPACA_EVAL.is_dir(), reason="needs the released files in ../shared")


def test_hand_computed() -> None:
    # fractions: 0, 1, .5 (draw), .5 (old draw), .75; None and 3 are dropped
    row = win_rate([1, 2, 1.5, 0, 1.75, None, 3], lengths=[10, 20, 30, 40, 50, 60, 71])
    assert row["win_rate"] == pytest.approx(55.0, abs=1e-12)  # 100 * 2.75 / 5
    # squared deviations from .55: .3025 + .2025 + .0025 + .0025 + .04 = .55; sd^2 = .55/4; SE = sqrt(.1375/5)
    assert row["standard_error"] == pytest.approx(100 * math.sqrt(0.1375 / 5), abs=1e-12)
    assert (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"]) == (2, 1, 2, 5)
    assert row["discrete_win_rate"] == pytest.approx(60.0, abs=1e-12)  # 1.75 rounds to a win: 100 * 3 / 5
    assert row["n_dropped"] == 2
    assert row["avg_length"] == 40  # 281 / 7 = 40.14, over all rows


def test_a_single_verdict_has_no_standard_error() -> None:
    row = win_rate([2])
    assert row["win_rate"] == 100
    assert math.isnan(row["standard_error"])
    assert "avg_length" not in row


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([], "none of the 0 rows"),
        ([None, float("nan"), 2.5, -1], "none of the 4 rows"),
        ([1, "2"], "row 1 is '2'"),
        ([True], "row 0 is True"),
    ],
)
def test_what_is_refused(preferences: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        win_rate(preferences)


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="lengths: 1 entries for 2 preferences"):
        win_rate([1, 2], lengths=[5])


verdicts = st.one_of(st.sampled_from([0, 1, 1.5, 2]), st.floats(1, 2))


def _reference(preferences: list[float]) -> dict[str, Any]:
    """The leaderboard's definitions, by pandas, as FACTS has them."""
    x = pd.Series(preferences, dtype=float).replace({0.0: 1.5}) - 1
    discrete = [0.5 if value == 0.5 else float(round(value)) for value in x.to_numpy().tolist()]
    return {
        "win_rate": 100 * float(x.to_numpy().mean()),
        "standard_error": 100 * float(np.std(x, ddof=1)) / len(x) ** 0.5,
        "n_wins": (x > 0.5).sum(),
        "n_wins_base": (x < 0.5).sum(),
        "n_draws": (x == 0.5).sum(),
        "n_total": len(x),
        "discrete_win_rate": 100 * fmean(discrete),
    }


@given(st.lists(verdicts, min_size=2, max_size=40))
def test_equals_the_definition(preferences: list[float]) -> None:
    row = win_rate(preferences)
    for key, expected in _reference(preferences).items():
        # 1e-5: pandas' standard error of equal values is rounding noise of order 1e-7, ours likewise
        assert row[key] == pytest.approx(expected, abs=1e-5), key


@given(st.lists(verdicts, min_size=2, max_size=40))
def test_swapping_the_sides_mirrors_the_row(preferences: list[float]) -> None:
    row = win_rate(preferences)
    mirrored = win_rate([1.5 if value == 0 else 3 - value for value in preferences])
    assert mirrored["n_wins"] == pytest.approx(row["n_wins_base"])
    assert mirrored["win_rate"] == pytest.approx(100 - row["win_rate"], abs=1e-9)
    assert row["n_wins"] + row["n_wins_base"] + row["n_draws"] == row["n_total"]


def test_win_fractions_keeps_the_rows() -> None:
    np.testing.assert_array_equal(win_fractions(np.array([1.0, 0.0, np.nan, 2.0])), [0, 0.5, np.nan, 1])


def test_categories_partition_the_rows() -> None:
    rows = win_rate_by_category([1, 2, 2, None, 1], ["a", "b", "b", "c", "b"], lengths=[1, 2, 4, 8, 6])
    assert list(rows) == ["b", "a", "c"]
    assert rows["b"]["win_rate"] == pytest.approx(200 / 3)
    assert rows["b"]["avg_length"] == 4
    assert rows["c"]["n_total"] == 0
    assert math.isnan(rows["c"]["win_rate"])
    with pytest.raises(ValueError, match="categories: 1 entries"):
        win_rate_by_category([1, 2], ["a"])


def test_length_matched_takes_the_close_rows() -> None:
    # ratios .75 (kept at the limit), .74, 1, and two empty outputs, which are as long as each other
    row = length_matched_win_rate([2, 2, 1, 1], lengths=[100, 100, 50, 0], reference_lengths=[75, 74, 50, 0])
    assert row["n_matched"] == 3
    assert row["matched_share"] == 0.75
    assert row["win_rate"] == pytest.approx(100 / 3)
    nothing = length_matched_win_rate([2], lengths=[10], reference_lengths=[1])
    assert nothing["n_total"] == 0
    assert math.isnan(nothing["win_rate"])
    with pytest.raises(ValueError, match="tolerance is 1"):
        length_matched_win_rate([2], [1], [1], tolerance=1)


@needs_data
def test_published_row_of_alpaca_7b() -> None:
    rows = json.loads((ALPACA_EVAL / "alpaca-7b" / "annotations.json").read_bytes())
    row = win_rate([r["preference"] for r in rows], [len(r["output_2"]) for r in rows])
    # 1e-9: the published figures have 12 to 17 digits; another order of summation moves the last two
    assert row["win_rate"] == pytest.approx(26.459627329192543, abs=1e-9)
    assert row["standard_error"] == pytest.approx(1.535711469748, abs=1e-9)
    assert row["discrete_win_rate"] == pytest.approx(26.459627329192543, abs=1e-9)
    assert (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"]) == (205, 584, 16, 805)
    assert row["avg_length"] == 396
    sizes = {
        name: r["n_total"]
        for name, r in win_rate_by_category([r["preference"] for r in rows], [r["dataset"] for r in rows]).items()
    }
    assert sizes == {"selfinstruct": 252, "oasst": 188, "koala": 156, "helpful_base": 129, "vicuna": 80}
