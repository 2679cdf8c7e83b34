"""What earlier versions wrote is read under today's names: a recorded sweep (run folders, W&B logs), tables in CSV."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from analysis import load_runs, read_table
from analysis.sources.wandb_offline import find_logs, read_log
from harness.metrics.names import RENAMED, RENAMED_HEADERS
from harness.record import RunFolder

ROOT = Path(__file__).parents[2]
# Written by the version before, but for its probes and the records of its machine, which were taken out.
SAMPLE = ROOT / "tests" / "support" / "old_layout"
TABLES = sorted((ROOT / "experiments").glob("*/runs.csv"))


def test_the_sample_is_of_the_first_layout() -> None:
    logs = [read_log(path) for path in find_logs(SAMPLE)]
    assert len(logs) == 2
    assert all("run" in log.config and "final/heldout/loss" in log.summary for log in logs)
    assert '"train/lr"' in next(SAMPLE.glob("*/metrics.jsonl")).read_text()


@pytest.mark.parametrize("place", [SAMPLE, SAMPLE / "wandb"], ids=["folders", "logs"])
def test_an_old_sweep_is_read_under_todays_names(place: Path) -> None:
    runs = load_runs(place)
    assert runs.runs["noise"].tolist() == ["none", "symnoise"]
    assert runs.configs["train.lr"].notna().all()
    assert {"eval/loss", "train/learning_rate", "judge/win_rate"} <= set(runs.runs)
    assert {"train/loss", "train/learning_rate"} <= set(runs.history)
    assert not set(RENAMED) & {*runs.runs, *runs.history}


def test_old_logs_and_old_folders_give_the_same_frames() -> None:
    disk, copy = load_runs(SAMPLE), load_runs(SAMPLE / "wandb")
    for name in ("runs", "configs", "history", "generations", "preferences"):
        assert_frame_equal(getattr(copy, name), getattr(disk, name), obj=name)


def test_an_old_run_goes_on_under_todays_names() -> None:
    folder = RunFolder(next(SAMPLE.glob("*/stages.json")).parent)
    assert all("train/learning_rate" in row and "train/lr" not in row for row in folder.metrics())


def test_a_metric_asked_for_by_its_old_name_is_told_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.__main__ import main

    assert main(["table", "custom", str(SAMPLE), "--metrics", "heldout/loss"]) == 2
    assert "metric heldout/loss: no finished run has it; it is eval/loss now" in capsys.readouterr().err
    assert main(["table", "custom", str(SAMPLE), "--metrics", "eval/loss", "--format", "csv"]) == 0
    [expected] = [
        json.loads((path / "summary.json").read_text())["final"]["heldout/loss"]
        for path in SAMPLE.iterdir()
        if "-none-" in path.name
    ]
    assert f"{expected:.6g}"[:6] in capsys.readouterr().out


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_published_tables_load_under_todays_headers(path: Path) -> None:
    table = read_table(path)
    assert len(table) > 0
    assert not [head for head in table for old in RENAMED_HEADERS if old in head]
    if "held-out loss" in path.read_text(encoding="utf-8").splitlines()[0]:
        assert [head for head in table if head.startswith("eval loss (nats)")]


def test_what_is_no_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv: not a table in CSV"):
        read_table(tmp_path / "empty.csv")
