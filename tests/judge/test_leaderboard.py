"""leaderboard.csv as AlpacaEval's users know it, and how much of a difference is length."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.judge.__main__ import main
from harness.judge.annotations import write_annotations
from harness.judge.lengths import cut_to_equal_length, pair_of

AS_PUBLISHED = "win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,discrete_win_rate,mode,avg_length"


def run_folder(runs: Path, model: str, preferences: list[float | None], **changes: Any) -> Path:
    identity = {"generator_1": "base", "generator_2": model, "annotator": "judge", **changes}
    rows = [
        {"instruction": f"Q{n}", "output_1": "word " * (n + 2), "output_2": "word " * (2 * n + 1), **identity}
        | {"preference": preference}
        for n, preference in enumerate(preferences)
    ]
    (runs / model).mkdir(parents=True, exist_ok=True)
    path = runs / model / "annotations.json"
    write_annotations(path, rows)
    return path


def test_the_csv_has_alpaca_evals_columns_and_the_best_first(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs", "worse", [1, 2, 1, 1.5, 2, 1, None, 1])
    run_folder(tmp_path / "runs", "better", [2, 1, 2, 1.5, 2, 1, 2, 2])
    assert main(["leaderboard", str(tmp_path / "runs"), "--output", str(tmp_path / "leaderboard.csv")]) == 0
    text = (tmp_path / "leaderboard.csv").read_text()
    assert text.startswith(f",{AS_PUBLISHED},length_controlled_winrate,lc_standard_error,style_controlled_win_rate")
    better, worse = csv.DictReader(text.splitlines())
    assert (better[""], worse[""]) == ("better", "worse")
    assert float(better["win_rate"]) == 100 * 5.5 / 8
    assert (worse["n_wins"], worse["n_wins_base"], worse["n_draws"], worse["n_total"]) == ("2", "4", "1", "7")
    assert better["avg_length"] == "40"
    assert better["length_controlled_winrate"] == ""
    assert 0 < float(worse["style_controlled_win_rate"]) < float(better["style_controlled_win_rate"]) < 100


@pytest.mark.parametrize("key", ["annotator", "generator_1"])
def test_different_judges_or_baselines_are_no_list(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path, "one", [1, 2, 1])
    run_folder(tmp_path, "two", [1, 2, 1], **{key: "other"})
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert f"{key} has several values" in capsys.readouterr().err
    if key == "annotator":
        assert main(["leaderboard", str(tmp_path), "--judge", "other"]) == 0
        assert "two" in capsys.readouterr().out


def test_a_category_is_a_list_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Arena-Hard v2: each category has its own baseline, so the whole is no list and each is."""
    for model, preferences in (("one", [1, 2, 1, 2, 1.5]), ("two", [2, 2, 1, 2, 1])):
        rows = []
        for number, (category, baseline) in enumerate((("hard_prompt", "o3"), ("creative_writing", "gemini"))):
            for preference in preferences:
                texts = {"output_1": "word " * (len(rows) + 2), "output_2": "word " * (2 * len(rows) + 1)}
                names = {"generator_1": baseline, "generator_2": model, "annotator": "judge", "dataset": category}
                flipped = 3 - preference if number else preference
                rows.append({"instruction": f"Q{len(rows)}", **texts, **names, "preference": flipped})
        (tmp_path / model).mkdir()
        write_annotations(tmp_path / model / "annotations.json", rows)
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert "generator_1 has several values" in capsys.readouterr().err
    rates = {}
    for category in ("hard_prompt", "creative_writing"):
        assert main(["leaderboard", str(tmp_path), "--category", category]) == 0
        for row in csv.DictReader(capsys.readouterr().out.splitlines()):
            rates[category, row[""]] = float(row["win_rate"])
            assert row["n_total"] == "5"
            assert 0 < float(row["style_controlled_win_rate"]) < 100
    assert rates["hard_prompt", "one"] == pytest.approx(50)
    assert rates["creative_writing", "two"] == pytest.approx(40)
    assert main(["leaderboard", str(tmp_path), "--category", "math"]) == 2
    assert "has no such rows; it has creative_writing, hard_prompt" in capsys.readouterr().err


def test_answers_are_cut_at_words() -> None:
    row = cut_to_equal_length({"output_1": "one two three four", "output_2": "eins zwei"})
    assert (row["output_1"], row["output_2"]) == ("one two", "eins zwei")
    row = cut_to_equal_length({"output_1": "Donaudampfschiff", "output_2": "ab"})
    assert (row["output_1"], row["output_2"]) == ("Do", "ab")
    assert cut_to_equal_length({"output_1": "x y", "output_2": ""})["output_1"] == ""
    for first in ("a b c", "a\nb  c", " a"):
        for second in ("x", "x y", "x y z w"):
            row = cut_to_equal_length({"output_1": first, "output_2": second})
            assert max(len(row["output_1"]), len(row["output_2"])) <= min(len(first), len(second))


def test_two_runs_are_set_off_against_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_folder(tmp_path, "one", [1, 2, 1, 1.5])
    second = run_folder(tmp_path, "two", [2, 2, None, 1])
    assert [row["preference"] for row in pair_of(first, second)] == [2.0, 1.5, None, 1.25]
    assert main(["lengths", str(first), "--against", str(second), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["as judged"]["win_rate"] == pytest.approx(100 * 1.75 / 3)
    assert found["lengths within 10%"]["n_total"] == 3  # both runs' answers are of one length
    assert found["always-longest"]["win_rate"] == 50.0
    other = run_folder(tmp_path, "three", [1, 2, 1, 1], annotator="another")
    assert main(["lengths", str(first), "--against", str(other)]) == 2
    assert "annotator is 'another'" in capsys.readouterr().err


def test_a_judge_sees_whole_and_cut_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Word overlap with output_1: cut to one length both answers are the same words, which is a draw."""
    path = run_folder(tmp_path, "one", [1, 2, 1, 1.5])
    assert main(["lengths", str(path), "judge=reference", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cut to equal length"]["avg_length"] < found["asked as they are"]["avg_length"]
    assert found["asked as they are"]["win_rate"] < 50
