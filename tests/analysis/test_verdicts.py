"""What a comparison decides: by hand, in the tables, and never from fewer than three seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.run_folders import config_of, write_run
from support.study import cell

from analysis import load_runs
from analysis.stats import Estimate
from analysis.study.verdicts import Comparison, decide
from analysis.tables.build import build
from analysis.tables.computed.claims import claims
from analysis.tables.computed.verdicts import verdicts
from analysis.tables.layouts import layout_named
from harness.metrics.names import ACCURACY, EVAL_LOSS, LENGTH, WIN_RATE


def found(mean: float, error: float, runs: int = 5) -> Estimate:
    return Estimate(mean, error, mean - 1, mean + 1, runs, 0, float(runs - 1))


@pytest.mark.parametrize(
    ("metric", "mean", "error", "control", "runs", "said"),
    [
        (WIN_RATE, 5.0, 0.5, 40.0, 5, "helps"),
        (WIN_RATE, -5.0, 0.5, 40.0, 5, "hurts"),
        (WIN_RATE, 0.1, 0.5, 40.0, 5, "no effect beyond 2 points"),
        (WIN_RATE, 0.5, 0.1, 40.0, 5, "helps, by less than 2 points"),
        (f"{ACCURACY}/heldout", 0.1, 0.5, 40.0, 5, "no effect beyond 2 points"),
        # 1% of 0.8 is 0.008; t(0.95, 4) = 2.13: 0.008 / 0.003 decides, 0.008 / 0.005 does not
        (EVAL_LOSS, 0.0, 0.003, 0.8, 5, "no effect beyond 1%"),
        # (t(0.95, 18) + t(0.9, 18)) * 0.005 * sqrt(5 / 19) = 0.0079; with 18 seeds it is 0.0081
        (EVAL_LOSS, 0.0, 0.005, 0.8, 5, "undecided: needs about 19 seeds"),
        (EVAL_LOSS, -0.1, 0.003, 0.8, 5, "helps"),
        (LENGTH, 300.0, 20.0, 700.0, 5, "longer"),
        (LENGTH, -300.0, 20.0, 700.0, 5, "shorter"),
        ("probe/trace", 1.0, 5.0, 700.0, 5, "undecided"),
        (WIN_RATE, 5.0, 0.01, 40.0, 2, "undecided: needs at least 3 seeds"),
        (WIN_RATE, 0.0, 0.01, 40.0, 1, "undecided: needs at least 3 seeds"),
        (WIN_RATE, 0.0, 0.0, 40.0, 5, "undecided: no scatter to judge by"),
        (WIN_RATE, 1.0, 0.0, 40.0, 5, "undecided: no scatter to judge by"),
    ],
)
def test_verdicts_by_hand(metric: str, mean: float, error: float, control: float, runs: int, said: str) -> None:
    (decision,) = decide([Comparison(metric, found(mean, error, runs), control)])
    assert str(decision) == said


def test_both_tests_are_corrected_over_the_table() -> None:
    """One comparison is equivalent by itself, and no longer among eight that are not."""
    alone = Comparison(WIN_RATE, found(0.0, 0.8), 40.0)
    assert str(*decide([alone])) == "no effect beyond 2 points"
    others = [Comparison(WIN_RATE, found(3.0, 2.0), 40.0)] * 7
    assert str(decide([alone, *others])[0]).startswith("undecided")


def runs_of(root: Path, seeds: int, loss: float) -> None:
    jitter = np.random.default_rng(0).normal(0, 0.0005, (2, seeds))
    for seed in range(seeds):
        write_run(root, config_of("none", seed=seed), {"eval/loss": 1.0 + jitter[0, seed]})
        write_run(root, config_of("neftune", 5, seed), {"eval/loss": loss + jitter[1, seed]})


@pytest.mark.parametrize(
    ("seeds", "loss", "verdict", "claim"),
    [
        (1, 0.9, "undecided: needs at least 3 seeds", "undecided: needs at least 3 seeds"),
        (2, 0.9, "undecided: needs at least 3 seeds", "undecided: needs at least 3 seeds"),
        (3, 0.9, "helps", "agrees"),
        (3, 1.1, "hurts", "contradicts"),
        (4, 1.0, "no effect beyond 1%", "no effect beyond 1%"),
    ],
)
def test_tables_say_the_verdict(tmp_path: Path, seeds: int, loss: float, verdict: str, claim: str) -> None:
    runs_of(tmp_path, seeds, loss)
    runs = load_runs(tmp_path)
    (table,) = verdicts(runs)
    assert cell(table, ["neftune", "5", "eval loss"], "verdict") == (
        verdict if seeds > 1 else "undecided: needs at least 3 seeds"
    )
    (table,) = claims(runs)
    assert cell(table, ["neftune < none: eval loss"], "status") == claim


def test_the_table_of_differences_has_verdicts(tmp_path: Path) -> None:
    runs_of(tmp_path, 3, 1.0)
    (table,) = build(load_runs(tmp_path), layout_named("differences"))
    assert str(cell(table, ["neftune", "5"], "verdict")).startswith("undecided")
    assert cell(table, ["none", ""], "verdict") == ""
