"""Two released models against each other: differences by hand, at equal length and by source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.released import comparison, main, report


def row(number: int, won: float, length: int, model: str, source: str = "") -> dict[str, Any]:
    return {
        "instruction": f"Question {number}",
        "output_1": "r" * 100,
        "generator_1": "reference",
        "output_2": "word " * (length // 5),
        "generator_2": model,
        "annotator": "judge",
        "dataset": source or ("koala" if number % 2 else "vicuna"),
        "preference": won,
    }


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps(rows))
    keys = {"instruction": "instruction", "output_2": "output", "generator_2": "generator", "dataset": "dataset"}
    outputs = [{new: each[old] for old, new in keys.items()} for each in rows]
    (folder / "model_outputs.json").write_text(json.dumps(outputs))
    return folder


def test_a_gain_that_is_length_alone_is_gone_at_equal_length() -> None:
    """The longer answer of NEFTune wins where the base loses; where both are as long, both lose."""
    pairs = []
    for number in range(40):
        longer = number < 30
        pairs.append(
            (row(number, 1.0, 100, "base"), row(number, 2.0 if longer else 1.0, 300 if longer else 100, "neft"))
        )
    found = {name: line for name, *line in comparison(pairs)}
    count, base, neft, by_item, by_source = found["win rate (%)"]
    assert (count, base, neft) == (40, 0.0, 75.0)
    assert by_item["low"] < 75 < by_item["high"]
    assert by_source["n_clusters"] == 2
    assert found["win rate, the two answers within 25% in length (%)"][:3] == [10, 0.0, 0.0]
    assert found["win rate, both within 25% of the reference's length (%)"][:3] == [10, 0.0, 0.0]
    assert found["characters"][:3] == [40, 100.0, 250.0]
    assert found["win rate, koala (%)"][:3] == [20, 0.0, 75.0]


def test_the_command_writes_a_table(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [[row(n, float(random.choice([1.0, 2.0])), 300, model) for n in range(20)] for model in ("base", "neft")]
    folders = [write(tmp_path / name, each) for name, each in zip(("base", "neft"), rows, strict=True)]
    assert main([*map(str, folders), "-o", str(tmp_path / "table.md")]) == 0
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("| | instructions | base | neft | difference [by instruction] | [by source] |\n")
    assert "| 2-gram repetition, 50 words (%) | 20 |" in text
    assert report(folders[0], folders[0]).count("+0.00 [+0.00, +0.00]") >= 4


def test_other_instructions_or_references_are_refused(tmp_path: Path, capsys: Any) -> None:
    base = write(tmp_path / "base", [row(n, 1.0, 50, "base") for n in range(4)])
    fewer = write(tmp_path / "fewer", [row(n, 1.0, 50, "neft") for n in range(3)])
    assert main([str(base), str(fewer)]) == 2
    assert "other instructions" in capsys.readouterr().err
    other = write(tmp_path / "other", [row(n, 1.0, 50, "neft") | {"annotator": "another"} for n in range(4)])
    assert main([str(base), str(other)]) == 2
    error = capsys.readouterr().err
    assert "another annotator than" in error
    assert len(error.splitlines()) == 1


def test_a_folder_without_verdicts_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
