"""How flat quality is in alpha, and how much of a gain in win rate is length: by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import config_of, write_run

from analysis import flatness, length_gain, load_runs
from analysis.stats import Estimate
from analysis.tables import Value


def mean_of(value: Value) -> float:
    assert isinstance(value, Estimate)
    return value.mean


def test_a_gain_is_split_into_length_and_the_rest(tmp_path: Path) -> None:
    """References have 8 characters. Without noise 4 similar answers win 1; with it 2 similar win 1, 2 longer 2."""
    write_run(tmp_path, config_of("none"), preferences=[2, 1, 1, 1], lengths=[8, 8, 8, 8])
    write_run(tmp_path, config_of("neftune", 5), preferences=[2, 1, 2, 2], lengths=[8, 8, 80, 80])
    (table,) = length_gain(load_runs(tmp_path))
    ((labels, (runs, length, whole, by_length, equal)),) = table.rows
    assert labels == ["neftune", "5"]
    assert runs == "1"
    assert mean_of(length) == 36
    assert mean_of(whole) == pytest.approx(50)
    # Half of the answers move from a class that wins (25 + 50) / 2 to one that wins 100.
    assert mean_of(by_length) == pytest.approx(0.5 * 100 - 0.5 * 37.5)
    assert mean_of(equal) == pytest.approx((1 + 0.5) / 2 * (50 - 25))
    assert mean_of(by_length) + mean_of(equal) == pytest.approx(mean_of(whole))


def test_a_gain_is_paired_by_seed(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, config_of("none", seed=seed), preferences=[1, 1, 2, 1])
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[1, 2, 2, 1 + seed])
    write_run(tmp_path, config_of("neftune", 5, 7), preferences=[1, 1, 1, 1])
    (table,) = length_gain(load_runs(tmp_path))
    ((_, (runs, _, whole, by_length, _)),) = table.rows
    assert runs == "2"
    assert mean_of(whole) == pytest.approx((25 + 50) / 2)
    assert mean_of(by_length) == 0


def test_alphas_that_are_not_shown_to_be_worse(tmp_path: Path) -> None:
    """Alpha 5 is best; 1 differs from it by less than its scatter, 30 by far more."""
    losses = {1.0: (1.0, 1.2, 1.1), 5.0: (1.0, 1.1, 1.1), 30.0: (2.0, 2.1, 2.1)}
    for alpha, values in losses.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, config_of("neftune", alpha, seed), {"heldout/loss": value + 0.001 * seed * alpha})
    (table,) = flatness(load_runs(tmp_path))
    rows = {str(values[0]): values[1:] for _, values in table.rows}
    assert rows["held-out loss"] == ["1, 5, 30", "5 (1.072)", "30 (2.097)", "1, 5"]
    assert rows["win rate"][3] == "1, 5, 30", "the same wins at every alpha"


def test_runs_with_nothing_to_compare_say_so(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5))
    for tables in (flatness(load_runs(tmp_path)), length_gain(load_runs(tmp_path))):
        assert "nothing to compare" in str(tables)


def test_without_a_finished_run_it_is_one_error(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5), status="failed")
    with pytest.raises(ValueError, match="no finished run for the table flatness"):
        flatness(load_runs(tmp_path))
