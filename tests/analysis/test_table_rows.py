"""Which runs may be in one table, and in one row of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.run_folders import config_of, write_run
from support.study import cell, estimate, sweep, tables_of

from analysis import load_runs
from analysis.render.formats import render
from analysis.stats import Estimate
from analysis.tables.build import build
from analysis.tables.computed.verdicts import verdicts
from analysis.tables.layouts import layout_named


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


def test_without_a_baseline_a_table_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5, 0))
    [table] = tables_of(tmp_path, "differences")
    assert not any("change to none" in column.header for column in table.columns)
    assert any(note.startswith("no row is compared with none") for note in table.notes)


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


def test_no_finished_run_is_an_error_that_counts(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), status="failed")
    with pytest.raises(ValueError, match="no finished run to put into a table; found: 1 failed"):
        tables_of(tmp_path)


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
