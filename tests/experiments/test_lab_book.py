"""What `experiments.collect` writes of a sweep: read from the run folders, one run of each setting shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support.run_folders import config_of, write_run

from experiments.collect import collect


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds of none and neftune, and what was recorded about the machine."""
    root = tmp_path / "runs"
    about = {"command": ["__main__.py", "output_dir=/home/someone/runs"], "git": {"commit": "c0ffee", "diff": "-old"}}
    about |= {"history": [json.loads(json.dumps(about))]}
    for noise in ("none", "neftune"):
        for seed in (0, 1):
            found = {"eval/loss": 2.0 + seed / 10 - (noise == "neftune")}
            run = write_run(root, config_of(noise, 5, seed), found, [1.0, 2.0, 2.0, 1.5 + seed / 2])
            (run / "provenance.json").write_text(json.dumps(about), encoding="utf-8")
    return root


def test_a_study_becomes_its_folder(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "2026-01-01-study"
    folder.mkdir()
    custom = {"name": "custom", "file": "losses", "metrics": "eval/loss", "differences": "eval/loss"}
    collect(runs, folder, [custom, "ablation"], 2, ["forest"])
    written = {"losses.md", "table-2.md", "runs.csv", "samples.md", "curves.md", "machine.json", "forest.png"}
    assert {path.name for path in folder.iterdir()} == {*written, "captions.md"}
    rows = list(csv.DictReader((folder / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["noise"] for row in rows] == ["none", "neftune"]
    assert float(rows[1]["eval loss - none (nats)"]) == pytest.approx(-1.0)
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "captions.md").read_text(encoding="utf-8").startswith("**forest**: ")


def test_answers_and_curves_are_those_of_the_lowest_seed(runs: Path, tmp_path: Path) -> None:
    collect(runs, tmp_path, ["ablation"], 2)
    samples = (tmp_path / "samples.md").read_text(encoding="utf-8")
    assert samples.count("**tiny-none-s0**") == 2
    assert "s1" not in samples
    assert "Question 1" in samples
    assert "Question 2" not in samples
    curves = (tmp_path / "curves.md").read_text(encoding="utf-8").splitlines()
    assert curves[2:] == ["| step | tiny-neftune-a5-s0 | tiny-none-s0 |", "|---|---|---|", "| 1 | 2.0000 | 2.0000 |"]


def test_the_machine_is_recorded_without_its_paths_and_the_diff(runs: Path, tmp_path: Path) -> None:
    collect(runs, tmp_path, ["ablation"], 0)
    text = (tmp_path / "machine.json").read_text(encoding="utf-8")
    assert json.loads(text)["git"] == {"commit": "c0ffee", "uncommitted_changes": True}
    assert "someone" not in text
    assert "-old" not in text
    assert not (tmp_path / "samples.md").exists()
