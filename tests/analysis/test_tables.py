"""Cells and differences recomputed from the raw files, with everything that must not be averaged in kept apart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean

import pytest
from support.run_folders import config_of, write_run
from support.study import cell, estimate, raw, sweep, tables_of

from analysis import load_runs, stats
from analysis.render.formats import render
from analysis.render.table import Table
from analysis.stats import Estimate
from analysis.study.measures import Measures
from analysis.tables.build import build
from analysis.tables.layouts import layout_named


def as_tested(table: Table) -> list[Estimate]:
    """The differences in win rate of all rows but the first, as their p-values take them."""
    return stats.with_shared_scatter([estimate(table, labels, "win rate - none") for labels, _ in table.rows[1:]])


def two_way_error(rows: list[list[float]]) -> float:
    """Of the mean over three seeds and eight families of three (instruction i is of family i % 8), by hand."""
    rows = [[mean(row[family::8]) for family in range(8)] for row in rows]
    seeds, items = [mean(row) for row in rows], [mean(column) for column in zip(*rows, strict=True)]
    grand = mean(seeds)
    ms_seed = 8 * sum((s - grand) ** 2 for s in seeds) / 2
    ms_item = 3 * sum((i - grand) ** 2 for i in items) / 7
    rest = sum((rows[s][i] - seeds[s] - items[i] + grand) ** 2 for s in range(3) for i in range(8)) / 14
    return math.sqrt(max(ms_seed + ms_item - rest, ms_seed, ms_item) / 24)


def test_cells_equal_what_the_raw_files_say(tmp_path: Path) -> None:
    sweep(tmp_path)
    [table] = tables_of(tmp_path)
    assert [labels for labels, _ in table.rows] == [
        ["none", ""], ["neftune", "5"], ["neftune", "10"], ["symnoise", "5"], ["symnoise", "10"],
    ]  # fmt: skip
    for noise, alpha in (("none", 0), ("neftune", 10), ("symnoise", 5)):
        labels = [noise, f"{alpha}" if alpha else ""]
        runs = raw(tmp_path, noise, alpha)
        win, length = estimate(table, labels, "win rate"), estimate(table, labels, "length")
        assert win.mean == pytest.approx(mean(run["win"] for run in runs))
        assert (win.runs, win.instructions) == (3, 24)
        assert length.mean == pytest.approx(mean(run["length"] for run in runs))
        assert length.error == pytest.approx(two_way_error([run["lengths"] for run in runs]))
        assert (length.runs, length.instructions, length.clusters) == (3, 24, 8)
        assert (cell(table, labels, "runs"), cell(table, labels, "instructions")) == ("3", "24")


def test_an_instruction_without_a_verdict_is_counted_where_it_counts(tmp_path: Path) -> None:
    """Means hold every verdict; intervals and differences only instructions that all their runs have verdicts on."""
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed), preferences=[1.0, 2.0, 1.0, 2.0])
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[2.0, None if seed else 2.0, 2.0, 1.0])
    [table] = tables_of(tmp_path)
    assert (cell(table, ["none", ""], "instructions"), cell(table, ["neftune", "5"], "instructions")) == ("4", "3")
    assert estimate(table, ["neftune", "5"], "win rate").mean == pytest.approx((75 + 200 / 3) / 2)
    difference = estimate(table, ["neftune", "5"], "win rate - none")
    assert difference.mean == pytest.approx(100 * (2 / 3 - 1 / 3))
    assert difference.instructions == 3
    assert any(
        note.startswith("instructions without a verdict in some runs of a row (up to 1)") for note in table.notes
    )


def test_differences_are_paired_by_seed_and_instruction(tmp_path: Path) -> None:
    sweep(tmp_path)
    [table] = tables_of(tmp_path, "differences")
    ours, base = raw(tmp_path, "symnoise", 5), raw(tmp_path, "none", 0)
    found = estimate(table, ["symnoise", "5"], "win rate - none")
    assert found.mean == pytest.approx(mean(a["win"] - b["win"] for a, b in zip(ours, base, strict=True)))
    rows = [[x - y for x, y in zip(a["wins"], b["wins"], strict=True)] for a, b in zip(ours, base, strict=True)]
    assert found.error == pytest.approx(two_way_error(rows))
    relative = estimate(table, ["symnoise", "5"], "win rate, relative change to none")
    expected = 100 * (mean(a["win"] for a in ours) / mean(b["win"] for b in base) - 1)
    assert relative.mean == pytest.approx(expected)
    assert cell(table, ["none", ""], "win rate - none") == ""


def test_the_minimum_detectable_effect_is_at_the_corrected_level(tmp_path: Path) -> None:
    """Four comparisons: the strictest step of Holm's correction tests at 0.05 / 4."""
    sweep(tmp_path)
    [table] = tables_of(tmp_path, "differences")
    found = as_tested(table)[2]
    size = found.error * stats.detectable_factor(round(found.freedom, 2), level=0.05 / 4)
    assert cell(table, ["symnoise", "5"], "minimum detectable effect") == pytest.approx(size)
    assert any("after Holm's correction for 4 comparisons" in note for note in table.notes)


def test_pairs_use_the_common_seeds_alone(tmp_path: Path) -> None:
    for seed, won in ((0, 2.0), (1, 1.0)):
        write_run(tmp_path, config_of("none", seed=seed), preferences=[1.0, won])
    for seed, won in ((1, 2.0), (2, 2.0)):
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[1.0, won])
    [table] = tables_of(tmp_path)
    assert estimate(table, ["neftune", "5"], "win rate - none").mean == 50.0
    assert estimate(table, ["neftune", "5"], "win rate - none").runs == 1


def test_p_values_are_corrected_over_the_table(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=2)
    [table] = tables_of(tmp_path, "differences")
    single = [stats.p_value(found) for found in as_tested(table)]
    shown = [cell(table, labels, "p (Holm)") for labels, _ in table.rows[1:]]
    ordered = sorted(range(4), key=lambda i: single[i])
    expected, worst = [0.0] * 4, 0.0
    for rank, i in enumerate(ordered):
        worst = max(worst, min(1.0, (4 - rank) * single[i]))
        expected[i] = worst
    assert shown == pytest.approx(expected)


def test_failed_and_diverged_runs_are_counted_and_never_averaged(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0), {"eval/loss": 1.0})
    write_run(tmp_path, config_of("neftune", 5, 1), {"eval/loss": 9.0}, status="diverged")
    write_run(tmp_path, config_of("neftune", 5, 2), status="failed")
    write_run(tmp_path, config_of("neftune", 50, 0), {"eval/loss": 9.0}, status="diverged")
    [table] = tables_of(tmp_path)
    assert estimate(table, ["neftune", "5"], "eval loss").mean == 1.0
    assert cell(table, ["neftune", "5"], "runs") == "1 (1 diverged, 1 failed)"
    assert cell(table, ["neftune", "50"], "runs") == "0 (1 diverged)"
    assert cell(table, ["neftune", "50"], "win rate") is None
    assert any("2 diverged, 1 failed" in note for note in table.notes)
    [overhead] = tables_of(tmp_path, "overhead")
    assert (cell(overhead, ["neftune", "5"], "diverged"), cell(overhead, ["neftune", "5"], "failed")) == (1.0, 1.0)


def test_a_duplicate_seed_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0), preferences=[2.0, 1.0])
    write_run(tmp_path, config_of("neftune", 5, 0), preferences=[2.0, 1.0], name="copy")
    write_run(tmp_path, config_of("neftune", 5, 1), preferences=[1.0, 1.0])
    [table] = tables_of(tmp_path)
    assert estimate(table, ["neftune", "5"], "win rate").mean == 25.0
    assert cell(table, ["neftune", "5"], "runs") == "2"


def test_partial_credit_is_paired_by_instruction_and_absent_in_older_runs(tmp_path: Path) -> None:
    """Two settings, two seeds, with credit for each answer; one run of an earlier version without it."""
    credit = {("none", 0): [0.0, 0.5, 1.0, 0.5], ("none", 1): [0.5, 0.5, 1.0, 0.0]}
    credit |= {("neftune", 0): [0.5, 0.5, 1.0, 1.0], ("neftune", 1): [0.5, 1.0, 1.0, 0.5]}
    for (noise, seed), shares in credit.items():
        folder = write_run(
            tmp_path, config_of(noise, 5, seed), {"judge/accuracy": 25.0, "judge/partial_credit": 25 * sum(shares)}
        )
        rows = json.loads((folder / "annotations.json").read_text())
        rows = [{**row, "partial_credit": share} for row, share in zip(rows, shares, strict=True)]
        (folder / "annotations.json").write_text(json.dumps(rows))
    write_run(tmp_path, config_of("symnoise", 5), {"judge/accuracy": 25.0})
    [table] = build(load_runs(tmp_path), layout_named("ablation"))
    assert estimate(table, ["none", ""], "partial credit").mean == 50.0
    assert estimate(table, ["none", ""], "partial credit").instructions == 4
    assert estimate(table, ["neftune", "5"], "partial credit").mean == 75.0
    assert math.isnan(cell(table, ["symnoise", "5"], "partial credit"))  # type: ignore[arg-type]
    difference = Measures(load_runs(tmp_path)).difference(
        "judge/partial_credit", *([f"tiny-{noise}-s{seed}" for seed in (0, 1)] for noise in ("neftune-a5", "none"))
    )
    assert isinstance(difference, Estimate)
    assert (difference.mean, difference.instructions) == (25.0, 4)


def test_length_controlled_win_rate_where_a_run_has_it(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), {"judge/length_controlled_winrate": 26.29})
    write_run(tmp_path, config_of("none", seed=1), {"judge/length_controlled_winrate": 28.29})
    [table] = tables_of(tmp_path)
    assert estimate(table, ["none", ""], "length-controlled").mean == pytest.approx(27.29)


def test_a_metric_that_one_run_of_a_cell_lacks_is_undefined_there(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none", seed=0), {"eval/loss": 1.0})
    write_run(tmp_path, config_of("none", seed=1))
    write_run(tmp_path, config_of("neftune", 5), {"eval/loss": 1.0})
    [table] = tables_of(tmp_path)
    assert math.isnan(cell(table, ["none", ""], "eval loss"))  # type: ignore[arg-type]
    assert "n/d not defined or not measured" in render([table], "text")


def test_a_difference_says_where_seeds_are_missing(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed))
    write_run(tmp_path, config_of("neftune", 5, 1))
    write_run(tmp_path, config_of("neftune", 5, 2))
    write_run(tmp_path, config_of("symnoise", 5, 0))
    write_run(tmp_path, config_of("symnoise", 9, 7))
    [table] = tables_of(tmp_path)
    # neftune has two runs of its own and shares one seed; symnoise has one run, which is paired
    assert [cell(table, labels, "pairs") for labels, _ in table.rows] == ["", "1 × 4", "", ""]
    assert any(note.startswith("pairs: runs") for note in table.notes)
    assert any(note.startswith("symnoise 9: not compared with none: no finished runs") for note in table.notes)


@pytest.mark.parametrize(("seeds", "said"), [(1, "p is about these two"), (3, "p of a win rate counts")])
def test_the_p_of_one_run_is_not_of_the_noise(tmp_path: Path, seeds: int, said: str) -> None:
    sweep(tmp_path, seeds)
    [table] = tables_of(tmp_path)
    found = [note for note in table.notes if note.startswith("p ")]
    assert [note.startswith(said) for note in found] == [True]


def test_a_difference_without_verdicts_says_that_it_is_over_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed))
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[2.0, 1.0, 2.0, 1.0 + seed])
    (tmp_path / "tiny-none-s0" / "annotations.json").unlink()
    [table] = tables_of(tmp_path)
    assert (cell(table, ["none", ""], "instructions"), cell(table, ["neftune", "5"], "instructions")) == ("", "4")
    assert cell(table, ["neftune", "5"], "pairs") == "2"


def test_a_number_that_is_not_finite_is_undefined(tmp_path: Path) -> None:
    for seed, loss in ((0, 1.0), (1, math.inf)):
        write_run(tmp_path, config_of("none", seed=seed), {"eval/loss": loss})
    write_run(tmp_path, config_of("neftune", 5), {"eval/loss": 1.0})
    [table] = tables_of(tmp_path)
    assert math.isnan(cell(table, ["none", ""], "eval loss"))  # type: ignore[arg-type]
