"""`python -m harness.judge score`, as a user would call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.judge.__main__ import main

ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
needs_data = pytest.mark.skipif(not ALPACA_EVAL.is_dir(), reason="needs the released files in ../shared")
RELEASED = str(ALPACA_EVAL / "alpaca-7b" / "annotations.json")
DIFFICULTY = str(ALPACA_EVAL / "instruction_difficulty_reconstructed.csv")
GAMED = str(ALPACA_EVAL / "df_gamed_reconstructed.csv")


def _annotations(tmp_path: Path, **changes: Any) -> str:
    row = {"output_1": "a", "output_2": "bc", "generator_1": "base", "generator_2": "m", "annotator": "judge"}
    rows = [
        {"instruction": "one", "dataset": "koala", "preference": 2, **row},
        {"instruction": "two", "dataset": "vicuna", "preference": None, **row, **changes},
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return str(path)


@needs_data
def test_the_table_of_a_released_file() -> None:
    command = [sys.executable, "-m", "harness.judge", "score", RELEASED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "alpaca-7b against text_davinci_003, judged by alpaca_eval_gpt4"
    assert lines[1].split() == ["win", "rate", "26.4596", "%"]
    assert "selfinstruct" in done.stdout


@needs_data
def test_length_controlled_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="needs the extra `judge`")
    options = ["--length-controlled", "--difficulty", DIFFICULTY, "--gamed", GAMED, "--json"]
    assert main(["score", RELEASED, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["length_controlled_winrate"] == pytest.approx(26.294955, abs=1e-6)  # as in the metric's own test
    assert result["win_rate"] == pytest.approx(26.459627329192543, abs=1e-9)
    assert result["annotator"] == "alpaca_eval_gpt4"
    assert list(result["by_category"]) == ["selfinstruct", "oasst", "koala", "helpful_base", "vicuna"]
    assert main(["score", RELEASED, *options[:-1], "--C", "2.7825594"]) == 0
    assert "C (given)" in capsys.readouterr().out


def test_numbers_that_do_not_exist_are_blank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _annotations(tmp_path)
    assert main(["score", path, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["win_rate"], result["standard_error"], result["n_dropped"]) == (100, None, 1)
    assert result["by_category"]["vicuna"]["win_rate"] is None
    assert main(["score", path]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["standard", "error", "-", "points"]


def test_terminal_escapes_of_an_annotations_file_are_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[31m\x1b]0;title\x07\u202e"
    row = {"instruction": "q", "dataset": hostile, "output_1": "a", "output_2": "b", "preference": 2.0}
    row |= {"generator_1": hostile, "generator_2": hostile, "annotator": hostile}
    (tmp_path / "annotations.json").write_text(json.dumps([row]), encoding="utf-8")
    assert main(["score", str(tmp_path / "annotations.json")]) == 0
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "⟨U+001B⟩[31m" in shown


def test_two_judges_in_one_file_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", _annotations(tmp_path, annotator="other")]) == 0
    assert "note: several values of annotator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length-controlled"], "needs --difficulty and --gamed: the paths of"),
        (["--length-controlled", "--difficulty", "x.csv"], "needs --gamed: the paths of"),
        (["--C", "1", "--gamed", "x.csv"], "--gamed, --C: no effect without --length-controlled"),
        (["--length-controlled", "--difficulty", "x.csv", "--gamed", "y.csv"], "no such file"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["score", _annotations(tmp_path), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_tables_come_from_the_hub_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def download(repository: str, file: str, repo_type: str) -> str:
        asked.append((repository, file, repo_type))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    options = ["--length-controlled", "--difficulty", "hub", "--gamed", "hub"]
    assert main(["score", _annotations(tmp_path), *options]) == 2
    names = ["instruction_difficulty.csv", "df_gamed.csv"]
    assert asked == [("tatsu-lab/alpaca_eval", name, "dataset") for name in names]
    assert "fetching df_gamed.csv from the Hub's data set tatsu-lab/alpaca_eval" in capsys.readouterr().err
