"""The alpha that a table chooses, and what it may then say of it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from statistics import mean

import pytest
from support.run_folders import config_of, write_run
from support.study import cell, estimate, raw, sweep, tables_of

from analysis import load_runs
from analysis.figures.drawing import Drawing
from analysis.figures.registry import draw
from analysis.render.table import Published
from analysis.study.finding import findings


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
