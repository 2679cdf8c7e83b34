"""Tables recomputed from the raw files, with everything that must not be averaged in kept apart."""

from __future__ import annotations

import json
import math
import shutil
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from support.run_folders import config_of, write_run
from support.study import cell, estimate, sweep, tables_of

from analysis import checklist, load_runs, stats
from analysis.figures.drawing import Drawing
from analysis.figures.registry import draw
from analysis.render.formats import FORMATS, render
from analysis.render.table import Published, Table
from analysis.stats import Estimate
from analysis.study.finding import findings
from analysis.study.measures import Measures
from analysis.study.metrics import TOGETHER, with_companions
from analysis.study.published import published
from analysis.tables.build import build
from analysis.tables.computed.verdicts import verdicts
from analysis.tables.layouts import LAYOUTS, custom_layout, layout_named


def as_tested(table: Table) -> list[Estimate]:
    """The differences in win rate of all rows but the first, as their p-values take them."""
    return stats.with_shared_scatter([estimate(table, labels, "win rate - none") for labels, _ in table.rows[1:]])


def raw(root: Path, noise: str, alpha: float) -> list[dict[str, Any]]:
    """Per seed, from the files alone: win rate, mean length, and the wins one by one."""
    found = []
    for folder in sorted(root.glob(f"tiny-{noise}{f'-a{alpha:g}' if alpha else ''}-s*")):
        rows = json.loads((folder / "annotations.json").read_text())
        wins = [100 * (row["preference"] - 1) for row in rows]
        lengths = [len(row["output_2"]) for row in rows]
        found.append({"win": mean(wins), "length": mean(lengths), "wins": wins, "lengths": lengths})
    return found


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judge__name": "gpt4"}, "judge=gpt4"),
        ({"judge__kind": "other"}, "judge=reference (kind=other)"),
        ({"eval_set__limit": 16}, "eval_set=builtin (limit=16)"),
        ({"train__lr": 0.1}, "train.lr=0.1"),
        ({"train__lr": 0.0030000001}, "train.lr=0.0030000001"),
    ],
)
def test_runs_that_differ_elsewhere_are_never_in_one_table(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0), preferences=[2.0, 2.0])
    write_run(tmp_path, config_of("neftune", 5, 0, **settings), preferences=[1.0, 1.0], name="other")
    tables = tables_of(tmp_path)
    assert len(tables) == 2
    titles = {table.title: estimate(table, ["neftune", "5"], "win rate").mean for table in tables}
    assert [rate for title, rate in titles.items() if said in title] == [0.0]


def test_noises_of_one_name_and_different_settings_are_different_rows(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0))
    write_run(tmp_path, config_of("neftune", 5, 0, noise__length="padded"), name="padded")
    [table] = tables_of(tmp_path)
    assert [labels[0] for labels, _ in table.rows] == ["neftune (length=padded)", "neftune (length=true)"]


def test_a_noise_under_another_budget_says_so_and_keeps_its_baseline(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), preferences=[1.0, 1.0])
    for budget in ("equal_steps", "equal_rows"):
        config = config_of("symnoise", 5, train__budget=budget)
        write_run(tmp_path, config, preferences=[2.0, 1.0], name=budget)
    [table] = tables_of(tmp_path)
    assert [labels[0] for labels, _ in table.rows] == ["none", "symnoise", "symnoise (budget=equal_rows)"]
    assert estimate(table, ["symnoise (budget=equal_rows)", "5"], "win rate - none").mean == 50.0


def test_settings_of_the_judges_calls_do_not_split(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none", seed=0, judge__concurrency=4))
    write_run(tmp_path, config_of("none", seed=1, judge__concurrency=8))
    [table] = tables_of(tmp_path)
    assert cell(table, ["none", ""], "runs") == "2"


def test_verdicts_of_a_proxy_are_called_so_in_title_and_column(tmp_path: Path) -> None:
    for noise in ("none", "neftune"):
        folder = write_run(tmp_path, config_of(noise, 5, eval_set__name="alpaca_eval"))
        path = folder / "annotations.json"
        path.write_text(path.read_text().replace("reference:checker", "reference:word_f1_proxy"))
    [table] = tables_of(tmp_path)
    assert "win rate by a proxy: word overlap with the reference answer, not quality" in table.title
    heads = [column.header for column in table.columns]
    assert {"proxy win rate", "proxy win rate - none"} <= set(heads)
    assert "win rate" not in heads


def test_a_column_that_no_run_has_is_left_out_with_a_note(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=1)
    [table] = tables_of(tmp_path)
    assert "length-controlled" not in [column.header for column in table.columns]
    assert "length-controlled: needs judge.difficulty and judge.gamed, files of AlpacaEval" in table.notes
    assert "n/d" not in render([table], "text")
    [overhead] = tables_of(tmp_path, "overhead")
    assert "left out, not measured for these runs: largest gradient norm" in overhead.notes


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


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=1, dataset__name="alpaca")
    [table] = tables_of(tmp_path, "neftune_table6")
    assert cell(table, ["neftune", "10"], "win rate, published", "alpaca") == Published("61.18")
    assert cell(table, ["neftune", "10"], "length, published", "alpaca") == Published("1010")
    assert isinstance(cell(table, ["neftune", "10"], "win rate", "alpaca"), Estimate)
    assert cell(table, ["gaussian", "5"], "win rate", "alpaca") is None
    assert cell(table, ["gaussian", "5"], "win rate, published", "evol_instruct") == Published("65.09")
    text = render([table], "text")
    assert "61.18" in text
    assert "NEFTune 2310.05914 Table 6, llama2_7b, judged by chatgpt" in text


def test_published_best_alpha_stands_beside_ours_of_the_same_kind(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=2, dataset__name="alpaca")
    [table] = tables_of(tmp_path, "symnoise_table1")
    assert cell(table, ["none", ""], "win rate, published", "alpaca") == Published("29.79")
    best = ["symnoise", "best on test"]
    assert cell(table, best, "win rate, published", "alpaca") == Published("69.04")
    assert cell(table, best, "win rate, published", "openplatypus") == Published("72.23", recalled=True)
    assert cell(table, ["symnoise", "chosen"], "win rate, published", "alpaca") == ""
    assert estimate(table, best, "win rate", "alpaca") == estimate(table, ["symnoise", "5"], "win rate", "alpaca")
    assert cell(table, best, "p (Holm)", "alpaca") == ""
    assert any("symnoise alpaca: 5 (best on test: 5)" in note for note in table.notes)


def test_a_chosen_alpha_is_reported_and_compared_on_the_half_that_did_not_choose(tmp_path: Path) -> None:
    """Recomputed from the files: the halves are those of a hash of the instruction."""
    sweep(tmp_path, seeds=2, items=60)
    [table] = tables_of(tmp_path, "symnoise_table1")
    chooses = [sha256(f"choose alpha:Question {i}".encode()).digest()[0] % 2 == 0 for i in range(60)]
    by_alpha = {alpha: raw(tmp_path, "neftune", alpha) for alpha in (5, 10)}
    score = {
        a: mean(w for run in runs for w, c in zip(run["wins"], chooses, strict=True) if c)
        for a, runs in by_alpha.items()
    }
    chosen = by_alpha[max(score, key=score.__getitem__)]
    base = raw(tmp_path, "none", 0)
    kept = [i for i, c in enumerate(chooses) if not c]
    win = estimate(table, ["neftune", "chosen"], "win rate", "builtin")
    assert win.mean == pytest.approx(mean(run["wins"][i] for run in chosen for i in kept))
    assert win.instructions == len(kept)
    length = estimate(table, ["neftune", "chosen"], "length", "builtin")
    assert length.mean == pytest.approx(mean(run["lengths"][i] for run in chosen for i in kept))
    found = estimate(table, ["neftune", "chosen"], "win rate - none", "builtin")
    pairs = [(a["wins"][i], b["wins"][i]) for a, b in zip(chosen, base, strict=True) for i in kept]
    assert found.mean == pytest.approx(mean(x - y for x, y in pairs))
    assert 0 < cell(table, ["neftune", "chosen"], "p (Holm)", "builtin") <= 1  # type: ignore[operator]


def test_alphas_are_compared_on_the_seeds_that_all_have(tmp_path: Path) -> None:
    """Seed 1 is a lucky one that alpha 10 lacks: on seed 0, which both have, alpha 10 wins more."""
    items = 20
    for alpha, seed, won in ((5, 0, 0.2), (5, 1, 1.0), (10, 0, 0.4)):
        write_run(tmp_path, config_of("neftune", alpha, seed), preferences=[1 + won] * items)
    [table] = tables_of(tmp_path, "symnoise_fig1")
    assert estimate(table, ["builtin", "neftune", "chosen"], "win rate").mean == pytest.approx(40)
    assert any("neftune: 10 (best on test: 10)" in note for note in table.notes)


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


def test_without_a_baseline_a_table_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0))
    [table] = tables_of(tmp_path, "differences")
    assert not any("change to none" in column.header for column in table.columns)
    assert any(note.startswith("no row is compared with none") for note in table.notes)


def test_a_difference_without_verdicts_says_that_it_is_over_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed))
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[2.0, 1.0, 2.0, 1.0 + seed])
    (tmp_path / "tiny-none-s0" / "annotations.json").unlink()
    [table] = tables_of(tmp_path)
    assert (cell(table, ["none", ""], "instructions"), cell(table, ["neftune", "5"], "instructions")) == ("", "4")
    assert cell(table, ["neftune", "5"], "pairs") == "2"


@pytest.mark.parametrize(("length", "layout"), [("padded", "padded"), ("row", "packed")])
def test_a_layout_that_the_noise_brings_along_does_not_part_it_from_its_baseline(
    tmp_path: Path, length: str, layout: str
) -> None:
    write_run(tmp_path, config_of("none", train__layout="auto"), preferences=[1.0, 1.0])
    write_run(tmp_path, config_of("neftune", 5, train__layout="auto"), preferences=[2.0, 1.0])
    other = config_of("neftune", 5, train__layout=layout, noise__length=length)
    write_run(tmp_path, other, preferences=[2.0, 2.0], name="other")
    [table] = tables_of(tmp_path)
    assert estimate(table, [f"neftune (length={length})", "5"], "win rate - none").mean == 100.0
    assert estimate(table, ["neftune (length=true)", "5"], "win rate - none").mean == 50.0


def test_a_layout_that_was_asked_for_stays_a_difference(tmp_path: Path) -> None:
    for layout in ("auto", "padded"):
        write_run(tmp_path, config_of("none", train__layout=layout), preferences=[1.0, 1.0], name=layout)
    other = config_of("neftune", 5, train__layout="padded", noise__length="padded")
    write_run(tmp_path, other, preferences=[2.0, 2.0], name="other")
    tables = {table.title: table for table in tables_of(tmp_path)}
    [padded] = [table for title, table in tables.items() if "train.layout=padded" in title]
    assert len(tables) == 2
    assert estimate(padded, ["neftune", "5"], "win rate - none").mean == 100.0


def test_the_baseline_is_the_one_with_the_noises_own_settings(tmp_path: Path) -> None:
    """Runs before and after a key came into the schema: none without it, none with it."""
    for won, settings in ((1.0, {}), (1.5, {"noise__schedule": "constant"})):
        write_run(tmp_path, config_of("none", **settings), preferences=[won, 1.0], name=f"none{won}")
        write_run(tmp_path, config_of("neftune", 5, **settings), preferences=[2.0, 2.0], name=f"neftune{won}")
        write_run(tmp_path, config_of("symnoise", 5), preferences=[2.0, 1.0], name="symnoise") if won == 1.0 else None
    [table] = tables_of(tmp_path)
    found = {labels[0]: cell(table, labels, "win rate - none") for labels, _ in table.rows}
    assert found["none (schedule=constant)"] == found["none"] == ""
    differences = {name: value.mean for name, value in found.items() if isinstance(value, Estimate)}
    assert differences == {"neftune": 100.0, "neftune (schedule=constant)": 75.0, "symnoise": 50.0}


def test_a_number_that_is_not_finite_is_undefined(tmp_path: Path) -> None:
    for seed, loss in ((0, 1.0), (1, math.inf)):
        write_run(tmp_path, config_of("none", seed=seed), {"eval/loss": loss})
    write_run(tmp_path, config_of("neftune", 5), {"eval/loss": 1.0})
    [table] = tables_of(tmp_path)
    assert math.isnan(cell(table, ["none", ""], "eval loss"))  # type: ignore[arg-type]


def test_a_config_without_a_section_is_unset_and_one_without_a_seed_is_unreadable(tmp_path: Path) -> None:
    config = config_of("neftune", 5)
    del config["judge"]
    write_run(tmp_path, config, name="old")
    [table] = tables_of(tmp_path)
    assert "judge=unset" in table.title
    del config["seed"]
    write_run(tmp_path, {**config, "seed": None}, name="older")
    path = tmp_path / "older" / "config.yaml"
    path.write_text(path.read_text().replace("seed: null\n", ""))
    (older,) = load_runs(tmp_path).left_out
    assert older.status == "unreadable"
    assert "config: no seed, so that it has no place in a table" in older.reason


def test_the_mean_over_the_papers_data_sets_stands_beside_theirs(tmp_path: Path) -> None:
    """By hand, with seed 1 only on three of the four data sets, and one of our own that the paper lacks."""
    paper = ("alpaca", "evol_instruct", "sharegpt", "openplatypus")
    wins = {name: [[1.0, 0.0, float(i % 2), 0.0], [1.0, 1.0, 0.0, 0.0]] for i, name in enumerate((*paper, "builtin"))}
    for name, of_seeds in wins.items():
        for seed, won in enumerate(of_seeds):
            for noise, more in (("none", 0.0), ("neftune", 0.5)):
                if (name, seed) != ("sharegpt", 1):
                    config = config_of(noise, 5, seed, dataset__name=name)
                    scores = [1 + min(1.0, each + more) for each in won]
                    write_run(tmp_path, config, {}, scores, name=f"{name}-{noise}-{seed}")
    [table] = tables_of(tmp_path, "symnoise_table1")
    seed0 = [mean(wins[name][0][i] for name in paper) for i in range(4)]
    found = estimate(table, ["none", ""], "win rate", "mean")
    assert found.mean == pytest.approx(100 * mean(seed0))
    assert (found.runs, found.instructions) == (1, 4)
    assert found.error == pytest.approx(100 * stdev(seed0) / 2)
    assert cell(table, ["none", ""], "win rate, published", "mean") == Published("57.71")
    noisy = [mean(min(1.0, wins[name][0][i] + 0.5) for name in paper) for i in range(4)]
    gain = estimate(table, ["neftune", "5"], "win rate - none", "mean")
    assert gain.mean == pytest.approx(100 * mean(a - b for a, b in zip(noisy, seed0, strict=True)))
    assert estimate(table, ["none", ""], "length", "mean").mean == 10
    assert any(note.startswith(f"mean: over {', '.join(paper)}, each with the same weight") for note in table.notes)
    for folder in tmp_path.glob("sharegpt-*"):
        shutil.rmtree(folder)
    [table] = tables_of(tmp_path, "symnoise_table1")
    assert cell(table, ["none", ""], "win rate", "mean") is None


def test_alphas_that_cannot_be_compared_say_so(tmp_path: Path) -> None:
    for alpha, seed in ((5, 0), (10, 1)):
        write_run(tmp_path, config_of("neftune", alpha, seed), preferences=[2.0] * 8)
    [table] = tables_of(tmp_path, "symnoise_fig1")
    assert any("no alpha chosen for builtin neftune: no seed with verdicts at every alpha" in n for n in table.notes)


def test_an_alpha_without_verdicts_is_no_candidate_and_its_lost_runs_are_counted(tmp_path: Path) -> None:
    for alpha, won in ((5, 1.25), (10, 1.5)):
        write_run(tmp_path, config_of("neftune", alpha), preferences=[won] * 20)
    write_run(tmp_path, config_of("neftune", 10, 1), status="diverged")
    unjudged = write_run(tmp_path, config_of("neftune", 20))
    (unjudged / "annotations.json").unlink()
    [table] = tables_of(tmp_path, "symnoise_fig1")
    assert estimate(table, ["builtin", "neftune", "chosen"], "win rate").mean == 50.0
    assert cell(table, ["builtin", "neftune", "chosen"], "runs") == "1 (1 diverged)"


def test_the_only_alpha_needs_no_choice(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("symnoise", 5, 0, dataset__name="alpaca"))
    [table] = tables_of(tmp_path, "symnoise_table1")
    assert cell(table, ["symnoise", "5"], "win rate, published", "alpaca") == Published("69.04")


def test_every_layout_builds_renders_and_keeps_win_rate_and_length_together(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=2, items=8)
    runs = load_runs(tmp_path)
    together = ["win rate", "length-controlled", "length"]
    for layout in (*LAYOUTS.values(), custom_layout(None, None, "eval/loss,judge/win_rate")):
        [table] = build(runs, layout)
        heads = [column.header for column in table.columns]
        titled = [(column.group, column.title) for column in table.columns]
        assert len(titled) == len(set(titled)), layout.name
        places = [heads.index(head) for head in together if head in heads] if "win rate" in heads else []
        assert places == sorted(places), layout.name
        for form in (*FORMATS, "csv"):
            assert layout.title.split(" (")[0] in render([table], form), (layout.name, form)


def test_all_published_tables_are_in_a_layout_or_named_as_facts() -> None:
    shown = {name for layout in LAYOUTS.values() for name in layout.published}
    facts = {"symnoise_abstract", "released_diversity", "neftune_alpha"}
    assert set(published()["table"]) == shown | facts
    assert published()["value"].map(float).notna().all()
    assert (published()["source"] != "").all()
    assert set(published().loc[published()["recalled"] == "yes", "value"]) == {"81.38", "72.23"}


def test_compute_matched_compares_with_two_independent_draws_of_the_same_alpha(tmp_path: Path) -> None:
    for alpha in (5, 10):
        write_run(tmp_path, config_of("bernoulli_x2", alpha, 0, noise__pair="independent"), preferences=[1.0, 1.0])
        write_run(tmp_path, config_of("symnoise", alpha, 0), preferences=[2.0, 1.0 if alpha == 5 else 2.0])
    [table] = tables_of(tmp_path, "compute_matched")
    found = [estimate(table, ["symnoise", "antithetic", a], "win rate - bernoulli_x2").mean for a in ("5", "10")]
    assert found == [50.0, 100.0]


def test_overhead_is_relative_to_no_noise(tmp_path: Path) -> None:
    sweep(tmp_path)
    [table] = tables_of(tmp_path, "overhead")
    change = estimate(table, ["symnoise", "5"], "training, relative change to none")
    assert change.mean == pytest.approx(100.0)
    assert math.isnan(change.low)


def test_diversity_stands_beside_the_papers(tmp_path: Path) -> None:
    final = {"text/repetition_2_paper": 1.25, "text/log_diversity": 14.9878}
    write_run(tmp_path, config_of("none", dataset__name="alpaca"), final)
    [table] = tables_of(tmp_path, "neftune_table4")
    labels = ["alpaca", "none", ""]
    assert estimate(table, labels, "log-diversity").mean == 14.9878
    assert estimate(table, labels, "2-gram repetition").mean == 1.25
    assert cell(table, labels, "2-gram repetition, published") == Published("1.49")
    assert math.isnan(cell(table, labels, "log-diversity, papers' form"))  # type: ignore[arg-type]


def test_the_largest_gradient_norm_is_read_from_the_history(tmp_path: Path) -> None:
    rows = [{"step": step, "train/grad_norm": norm} for step, norm in ((1, 0.5), (2, 7.0), (3, None))]
    write_run(tmp_path, config_of("none"), history=rows)
    [table] = tables_of(tmp_path, "overhead")
    assert estimate(table, ["none", ""], "largest gradient norm").mean == 7.0


def test_probe_metrics_come_by_pattern(tmp_path: Path) -> None:
    found = {"probe/curvature/rademacher/5": 0.25, "probe/curvature/rademacher/5/low": 0.1, "probe/top_eigenvalue": 2.0}
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed), {**found, "eval/loss": 1.0})
        better = {**found, "probe/top_eigenvalue": 1.5 - seed}
        write_run(tmp_path, config_of("symnoise", 5, seed=seed), {**better, "eval/loss": 1.0})
    [table] = tables_of(tmp_path, "probes")
    assert estimate(table, ["none", ""], "curvature, rademacher 5").mean == 0.25
    assert estimate(table, ["symnoise", "5"], "top eigenvalue - none").mean == -1.0
    assert not any("low" in column.header for column in table.columns)
    assert not any("recorded none" in note for note in table.notes)
    [radii] = tables_of(tmp_path, "overfitting")
    assert any(note.startswith("these runs have recorded none of probe/train/loss") for note in radii.notes)
    [every] = build(load_runs(tmp_path), custom_layout(None, None, "probe/*"))
    assert [c.header for c in every.columns[1:]] == ["curvature, rademacher 5", "top eigenvalue"]


def test_open_llm_tasks_are_in_percent_as_in_the_paper(tmp_path: Path) -> None:
    final = {"probe/benchmark/arc_challenge/acc_norm": 0.5, "probe/benchmark/arc_challenge/acc": 0.4}
    write_run(tmp_path, config_of("none", dataset__name="alpaca"), final)
    [table] = tables_of(tmp_path, "open_llm")
    assert estimate(table, ["none", ""], "ARC").mean == 50.0
    assert cell(table, ["none", ""], "ARC, published") == Published("56.4")
    assert math.isnan(cell(table, ["none", ""], "MMLU"))  # type: ignore[arg-type]


def test_custom_tables_take_names(tmp_path: Path) -> None:
    sweep(tmp_path)
    [table] = build(load_runs(tmp_path), custom_layout("noise", "alpha", "eval/loss"))
    assert [column.group for column in table.columns] == ["", "", "5", "5", "10", "10"]
    assert estimate(table, ["symnoise"], "eval loss", "10").runs == 3
    with pytest.raises(ValueError, match=r"train\.nothing: not a setting"):
        build(load_runs(tmp_path), custom_layout("noise,train.nothing", None, None))


def test_custom_tables_compare_what_is_asked_with_what_is_asked(tmp_path: Path) -> None:
    for noise, loss in (("neftune", 1.5), ("symnoise", 1.25)):
        write_run(tmp_path, config_of(noise, 5), {"eval/loss": loss})
    layout = custom_layout(None, None, "eval/loss", "eval/loss", "neftune")
    [table] = build(load_runs(tmp_path), layout)
    assert estimate(table, ["symnoise", "5"], "eval loss - neftune").mean == -0.25
    assert cell(table, ["neftune", "5"], "eval loss - neftune") == ""


def test_no_finished_run_is_an_error_that_counts(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), status="failed")
    with pytest.raises(ValueError, match="no finished run to put into a table; found: 1 failed"):
        tables_of(tmp_path)


def test_the_checklist_counts_what_was_run_and_the_signs(tmp_path: Path) -> None:
    """Alpaca with none, NEFTune better at 5 and worse at 10: the paper has both better."""
    for noise, alpha, won in (("none", 0, 0.4), ("neftune", 5, 0.6), ("neftune", 10, 0.2)):
        write_run(
            tmp_path, config_of(noise, alpha, dataset__name="alpaca"), preferences=[1 + won, 1.0], lengths=[375, 375]
        )
    [found] = checklist(load_runs(tmp_path))
    rows = {labels[0]: values for labels, values in found.rows}
    numbers, ours, direction, distance = rows["neftune_table6"]
    assert (numbers, ours) == (30.0, 6.0)
    # win rates +, - against the paper's +, +; lengths do not change, which is no direction
    assert direction == "1 of 2"
    assert distance == pytest.approx(mean([48.26 - 20, 62.55 - 30, 61.18 - 10]))
    assert rows["neftune_fig2"][1] == 0.0  # another model: not beside ours
    assert any(note.startswith("judge: here reference; in the papers chatgpt") for note in found.notes)


def test_a_win_rate_of_any_kind_brings_its_companions() -> None:
    assert with_companions(("judge/discrete_win_rate",)) == (*TOGETHER, "judge/discrete_win_rate")
    assert with_companions(("eval/loss", "judge/win_rate/koala")) == (
        *TOGETHER,
        "eval/loss",
        "judge/win_rate/koala",
    )
    assert with_companions(("eval/loss",)) == ("eval/loss",)


def test_a_published_row_takes_the_noises_own_settings_from_our_runs(tmp_path: Path) -> None:
    """NEFTune Table 6 has alpha 10 and 15, which were not run here: still uniform noise without a pair."""
    sweep(tmp_path, seeds=1, dataset__name="alpaca")
    [table] = tables_of(tmp_path, "symnoise_table3")
    theirs = [labels for labels, values in table.rows if labels[0] == "neftune" and labels[-1] == "15"]
    assert theirs == [["neftune", "uniform", "none", "15"]]


def test_what_a_search_chose_by_is_left_out_of_every_row(tmp_path: Path) -> None:
    """Chosen on one half by the harness: all rows count the other half, also those the search did not look at."""
    sweep(tmp_path, seeds=2, items=40)
    [whole] = tables_of(tmp_path)
    (next(tmp_path.glob("*symnoise-a5-s0")) / "objective").write_text("selection/win_rate\n", encoding="utf-8")
    [halved] = tables_of(tmp_path)
    left = [i for i in range(40) if sha256(f"choose alpha:Question {i}".encode()).digest()[0] % 2]
    assert 10 < len(left) < 30
    for labels, name in (
        (["none", ""], "none"),
        (["symnoise", "5"], "symnoise-a5"),
        (["neftune", "10"], "neftune-a10"),
    ):
        paths = sorted(tmp_path.glob(f"*-{name}-s[01]"))
        rows = [json.loads((path / "annotations.json").read_text()) for path in paths]
        wins = [100 * mean(run[i]["preference"] - 1 for i in left) for run in rows]
        found = estimate(halved, labels, "win rate")
        assert found.mean == pytest.approx(mean(wins))
        assert found.instructions == len(left)
        assert estimate(halved, labels, "length").mean == pytest.approx(
            mean(len(run[i]["output_2"]) for run in rows for i in left)
        )
        assert estimate(whole, labels, "win rate").instructions == 40
    assert any(note.startswith("a search chose among these runs by selection/win_rate") for note in halved.notes)
    assert not any("a search chose" in note for note in whole.notes)
    found = findings(load_runs(tmp_path))
    assert all(each.difference.instructions == len(left) for each in found)
    assert all("the half of the instructions that no search has looked at" in str(each) for each in found)
    [curves] = [each for each in draw(load_runs(tmp_path), ["forest"]) if isinstance(each, Drawing)]
    assert "A search chose among these runs by selection/win_rate, numbers of one half" in curves.caption


def test_an_objective_over_all_instructions_is_said_to_be_biased(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=2, items=20)
    for path in tmp_path.glob("*-s0"):
        (path / "objective").write_text("judge/win_rate\n", encoding="utf-8")
    [found] = tables_of(tmp_path)
    assert estimate(found, ["symnoise", "5"], "win rate").instructions == 20
    assert any("the best of them is biased upwards in judge/win_rate" in note for note in found.notes)


def test_every_table_tells_the_ratio_of_its_noises(tmp_path):
    for seed, ratio in ((0, 0.08), (1, 0.1)):
        write_run(tmp_path, config_of("none", 5, seed), {"eval/loss": 2.0, "noise/ratio": 0.0})
        write_run(tmp_path, config_of("neftune", 5, seed), {"eval/loss": 1.9, "noise/ratio": ratio})
    runs, line = load_runs(tmp_path), "norm of the noise / norm of the embeddings: neftune, α=5 0.09"
    for name in ("ablation", "differences", "epochs"):
        assert line in build(runs, layout_named(name))[0].notes
    assert line in verdicts(runs)[0].notes
    table = build(runs, layout_named("noise_types"))[0]  # which has it as a column
    assert line not in table.notes
    assert "noise to embedding" in [column.header for column in table.columns]
