"""A study's plan: what it must say, that it is older than the runs, and that only its primary measures get verdicts."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from support.run_folders import config_of, write_run

from analysis.study.verdicts import Margin
from experiments import study as module
from experiments.findings import BOOK
from experiments.plan import FILE, check_precedes, committed_at, read_plan
from experiments.power import simulate
from experiments.recompute import main as recompute_folder
from experiments.recompute import recompute

ROOT = Path(__file__).parents[2]
PLANS = sorted(ROOT.glob(f"experiments/*/{FILE}"))
SAID: dict[str, Any] = {
    "question": "Does it?",
    "primary": {"eval/loss": "1%"},
    "exploratory": ["generate/characters"],
    "seeds": 4,
    "stopping": "after four seeds",
    "power": {"comparisons": 1, "scatter": {"eval/loss": {"seed": 0.004, "control": 2.0}}},
}


def git(folder: Path, *arguments: str) -> str:
    words = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A study with a plan in a repository of its own, not yet committed."""
    folder = tmp_path / "book" / "2026-01-01-study"
    folder.mkdir(parents=True)
    git(tmp_path / "book", "init", "-q")
    (folder.parent / "first").write_text("1")
    commit(folder.parent)
    (folder / FILE).write_text(yaml.safe_dump(SAID))
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "more")
    return git(folder, "rev-parse", "HEAD")


def runs(root: Path, of_commit: str) -> Path:
    """Four seeds of none and neftune: loss lower by 0.1 +- 0.001, of about 2 nats."""
    for noise in ("none", "neftune"):
        for seed in range(4):
            loss = 2.0 + seed / 10 - (noise == "neftune") * (0.1 + 0.001 * (seed % 2))
            run = write_run(root, config_of(noise, 5, seed), {"eval/loss": loss}, [1.0, 2.0, 2.0, 1.5])
            about = {"command": ["x"], "git": {"commit": of_commit}}
            (run / "provenance.json").write_text(json.dumps(about), encoding="utf-8")
    return root


def test_a_plan_is_read(book: Path) -> None:
    plan = read_plan(book / FILE)
    assert plan.verdicts.primary == {"eval/loss": Margin(1.0, "%")}
    assert (plan.verdicts.baseline, plan.seeds, plan.comparisons) == ("none", 4, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primry": 1}, "primry: unknown; choose from"),
        ({"stopping": ""}, "stopping: is missing"),
        ({"seeds": "5"}, "seeds='5': a number above 0"),
        ({"primary": {f"a/{n}": "1%" for n in range(4)}}, "primary: one to 3 measures"),
        ({"primary": {"eval/loss": "5%"}}, "eval/loss: margin 5%, but 1% is fixed for it"),
        ({"primary": {"eval/loss": "0 points"}}, "eval/loss: margin '0 points': a number above 0"),
        ({"primary": {"judge/accuracy": "2 points"}}, "power.scatter: judge/accuracy is missing"),
    ],
)
def test_a_bad_plan_is_refused_in_one_line(book: Path, changes: dict[str, Any], message: str) -> None:
    (book / FILE).write_text(yaml.safe_dump(SAID | changes))
    with pytest.raises(ValueError, match=r"plan\.yaml: ") as refused:
        read_plan(book / FILE)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_plan_must_be_committed_and_unchanged(book: Path) -> None:
    with pytest.raises(ValueError, match="the plan is not committed"):
        committed_at(book / FILE)
    made = commit(book)
    (book / "other").write_text("2")
    commit(book)
    assert committed_at(book / FILE) == made
    (book / FILE).write_text(yaml.safe_dump(SAID | {"question": "Another?"}))
    with pytest.raises(ValueError, match="changed and not committed"):
        committed_at(book / FILE)


def test_runs_older_than_the_plan_are_refused(book: Path) -> None:
    before = git(book.parent, "rev-parse", "HEAD")
    made = commit(book)
    (book / "other").write_text("2")
    later = commit(book)
    check_precedes(book / FILE, {"a": {"git": {"commit": made}}, "b": {"git": {"commit": later}}})
    with pytest.raises(ValueError, match=f"old: of commit {before[:10]}, which does not have"):
        check_precedes(book / FILE, {"old": {"git": {"commit": before}}})
    with pytest.raises(ValueError, match="far: of commit ffffffffff, which this repository does not have"):
        check_precedes(book / FILE, {"far": {"git": {"commit": "f" * 40}}})
    with pytest.raises(ValueError, match="wheel: its provenance names no commit"):
        check_precedes(book / FILE, {"wheel": {"git": {"commit": ""}}})
    # A plan that is mended after the runs is younger than they are.
    (book / FILE).write_text(yaml.safe_dump(SAID | {"primary": {"eval/loss": "1%", "generate/characters": "10%"}}))
    commit(book)
    with pytest.raises(ValueError, match="which does not have"):
        check_precedes(book / FILE, {"a": {"git": {"commit": made}}})


def test_a_tables_header_in_place_of_a_metric_is_refused_before_any_run(book: Path, tmp_path: Path) -> None:
    table = {"name": "custom", "metrics": "eval/loss, length"}
    (book / "study.yaml").write_text(yaml.safe_dump({"sweeps": [["noise=none"]], "tables": [table]}))
    commit(book)
    with pytest.raises(ValueError, match=r"study\.yaml: tables: metrics: length: it is generate/characters"):
        module.study(book, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_primary_measures_get_verdicts(book: Path, tmp_path: Path) -> None:
    made = commit(book)
    module.write_verdicts(read_plan(book / FILE), book, runs(tmp_path / "runs", made))
    lines = (book / "verdicts.md").read_text().splitlines()
    (loss,) = (line for line in lines if "eval loss" in line and line.startswith("| neftune"))
    (length,) = (line for line in lines if "| length |" in line and line.startswith("| neftune"))
    assert loss.endswith("| helps |")
    assert length.endswith("| exploratory |")
    # Another way from the numbers to the same words.
    assert recompute(book) == [("neftune", "5", "eval/loss", "helps")]
    with (book / "by_family.csv").open() as file:
        assert {row["family"] for row in csv.DictReader(file)} == {f"family{i}" for i in range(4)}
    # A primary measure that no run has is no reason to be silent about it.
    scatter = {"text/log_diversity": {"seed": 1, "control": 15}}
    said = SAID | {"primary": {"text/log_diversity": "10%"}, "power": {"comparisons": 1, "scatter": scatter}}
    (book / FILE).write_text(yaml.safe_dump(said))
    later = runs(tmp_path / "more", commit(book))
    with pytest.raises(ValueError, match="metric text/log_diversity"):
        module.write_verdicts(read_plan(book / FILE), book, later)


def test_verdicts_of_marked_answers_are_recomputed_by_family(book: Path, tmp_path: Path) -> None:
    """Accuracy, whose items come in families of unequal size: the two ways agree to the word and the number."""
    scatter = {"judge/accuracy": {"seed": 1, "control": 50}}
    said = SAID | {"primary": {"judge/accuracy": "2 points"}, "power": {"comparisons": 1, "scatter": scatter}}
    (book / FILE).write_text(yaml.safe_dump(said))
    made, random = commit(book), np.random.default_rng(0)
    for noise, chance in (("none", 0.4), ("neftune", 0.6), ("symnoise", 0.41)):
        for seed in range(4):
            marked = [1.5 if right else 1.0 for right in random.random(300) < chance]
            final = {"judge/accuracy": 100 * marked.count(1.5) / 300}
            run = write_run(tmp_path / "runs", config_of(noise, 5, seed), final, marked, [5] * 300)
            about = {"command": ["x"], "git": {"commit": made}}
            (run / "provenance.json").write_text(json.dumps(about), encoding="utf-8")
    module.write_verdicts(read_plan(book / FILE), book, tmp_path / "runs")
    written = pd.read_csv(book / "verdicts.csv")
    accuracy = written[written["measure"] == "accuracy"]
    found = recompute(book)
    assert [(*each[:2], each[3]) for each in found] == [
        (row["noise"], f"{row['alpha']:g}", row["verdict"]) for _, row in accuracy.iterrows()
    ]
    assert found[0][3] == "helps"


def test_nothing_runs_before_the_plan_is_committed(book: Path, tmp_path: Path) -> None:
    (book / "study.yaml").write_text(yaml.safe_dump({"sweeps": [["noise=none"]], "tables": ["ablation"]}))
    with pytest.raises(ValueError, match="the plan is not committed"):
        module.study(book, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_table_that_decides_for_itself_is_refused(book: Path, tmp_path: Path) -> None:
    (book / "study.yaml").write_text(yaml.safe_dump({"sweeps": [["noise=none"]], "tables": ["differences"]}))
    commit(book)
    with pytest.raises(ValueError, match="table differences gives verdicts of measures that"):
        module.study(book, tmp_path / "runs", 0)


def test_data_are_named_in_the_environment(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("ROWS", "/data/rows.json")
    assert "dataset.path=/data/rows.json" in module._command(["dataset.path=$ROWS"], tmp_path)
    monkeypatch.delenv("ROWS")
    with pytest.raises(ValueError, match=r"dataset\.path=\$ROWS: set ROWS in the environment"):
        module._command(["dataset.path=$ROWS"], tmp_path)


def test_more_seeds_decide_more(book: Path) -> None:
    plan = read_plan(book / FILE)
    # Scatter of 0.004 against a margin of 0.02: three seeds show neither surely, ten both.
    few, many = (simulate(plan, seeds, 0.0, 60)["eval/loss"] for seeds in (2, 8))
    assert few < 0.8 < many
    assert simulate(plan, 8, 2.0, 20)["eval/loss"] == 1.0


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.parent.name)
def test_every_plan_of_the_lab_book_is_one(path: Path) -> None:
    plan = read_plan(path)
    settings = yaml.safe_load((path.parent / "study.yaml").read_text("utf-8"))
    module._refuse_tables_with_verdicts(settings["tables"], path.parent)
    assert plan.seeds >= 3


def test_a_plan_of_earlier_names_is_read_under_todays(tmp_path: Path) -> None:
    """Its file may not change any more: it is older than its runs."""
    said = SAID | {"primary": {"heldout/loss": "1%"}, "exploratory": ["heldout/loss"]}
    said |= {"power": {"comparisons": 1, "scatter": {"heldout/loss": {"seed": 0.004, "control": 2.0}}}}
    (tmp_path / FILE).write_text(yaml.safe_dump(said))
    plan = read_plan(tmp_path / FILE)
    assert list(plan.verdicts.primary) == list(plan.scatter) == ["eval/loss"]
    assert plan.verdicts.exploratory == ("eval/loss",)


@pytest.mark.parametrize("study", sorted(path.parent.name for path in BOOK.glob("*/verdicts.csv")))
def test_verdicts_of_the_lab_book_follow_from_its_numbers_another_way(study: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["recompute", str(BOOK / study)])
    assert recompute_folder() == 0
