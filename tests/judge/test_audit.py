"""`python -m harness.judge audit`: the figures by hand, a judge with a known bias, and the command itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.judge.__main__ import main
from harness.judge.annotations import order_is_switched, write_annotations
from harness.judge.audit import audit, judge_config
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict


class PositionJudge(NoBudget):
    """Prefers the answer shown first with probability `bias`, but a much longer one in any place."""

    free = False

    def __init__(self, bias: float) -> None:
        self.identity = Identity(f"position{bias}")
        self.orders: tuple[bool, ...] | None = None
        self._bias = bias

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        yield [(n, Verdict(each.preference_of_second(self._second(each)))) for n, each in enumerate(comparisons)]

    def _second(self, comparison: Comparison) -> float:
        first, second = map(len, comparison.shown)
        return 1 - self._bias if abs(first - second) < 100 else float(second > first)


def row(number: int, one: str, two: str, preference: float | None) -> dict[str, Any]:
    texts = {"instruction": f"Question {number}", "output_1": one, "output_2": two}
    return {**texts, "generator_1": "r", "generator_2": "m", "annotator": "people", "preference": preference}


ROWS = [
    row(0, "a" * 5, "b" * 9, 2.0),  # the longer wins
    row(1, "a" * 300, "b", 1.0),  # the longer wins
    row(2, "a" * 7, "b" * 4, 2.0),  # the shorter wins
    row(3, "aaa", "bbb", 1.0),  # equal lengths: no say for length
    row(4, "aa", "b", 1.5),  # a draw
    row(5, "aa", "b", None),  # no verdict
]


def test_a_files_own_verdicts_by_hand(tmp_path: Path) -> None:
    found = audit(ROWS, None, tmp_path / "v.sqlite")
    assert (found["n_rows"], found["n_unparsed"]) == (6, 1)
    assert found["win_rate"] == pytest.approx(100 * 2.5 / 5)
    assert found["prefers_longer"] == pytest.approx(100 * 2 / 3)
    assert found["mean_length_gap"] == pytest.approx((4 + 299 - 3 + 0) / 4)
    assert found["longest_win_rate"] == pytest.approx(100 * (1 + 0 + 0 + 0.5 + 0 + 0) / 6)
    assert found["longest_agreement"] == pytest.approx(100 * 2 / 3)
    switched = [order_is_switched(f"Question {n}") for n in range(6)]
    first_wins = [(preference == 2.0) == swapped for preference, swapped in zip([2, 1, 2, 1], switched, strict=False)]
    assert found["prefers_first"] == pytest.approx(100 * sum(first_wins) / 4)
    assert found["first_agreement"] == pytest.approx(found["prefers_first"])
    assert found["first_win_rate"] == pytest.approx(100 * sum(switched) / 6)
    assert "agreement" not in found


def test_a_judge_that_wants_the_first(tmp_path: Path) -> None:
    """Length settles row 1 (two choices); the other ten choices of the two orders fall on the first shown."""
    found = audit(ROWS, PositionJudge(0.75), tmp_path / "v.sqlite")
    assert found["prefers_first"] == pytest.approx(100 * 11 / 12)
    assert found["order_agreement"] == pytest.approx(100 / 6)
    assert found["agreement"] == 100.0  # only row 1 has a winner after both orders, and it is the file's
    assert found["prefers_longer"] == 100.0
    assert found["win_rate"] == pytest.approx(100 * (5 * 0.5 + 0) / 6)


def test_an_unbiased_judge_agrees_with_itself(tmp_path: Path) -> None:
    class Longest(PositionJudge):
        def _second(self, comparison: Comparison) -> float:
            first, second = map(len, comparison.shown)
            return 0.5 + 0.5 * ((second > first) - (second < first))

    found = audit(ROWS, Longest(0.0), tmp_path / "v.sqlite")
    assert found["prefers_first"] == 50.0
    assert found["order_agreement"] == 100.0
    assert found["agreement"] == found["longest_agreement"]


def test_nothing_to_count_is_no_number(tmp_path: Path) -> None:
    found = audit([row(0, "same", "same", 1.5)], None, tmp_path / "v.sqlite")
    assert math.isnan(found["prefers_longer"])
    assert math.isnan(found["prefers_first"])


def test_the_released_gpt4_prefers_length_as_published(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """alpaca_eval's own table gives this annotator a probability to prefer the longer of 0.68, the first of 0.50."""
    path = shared_data / "alpaca_eval" / "alpaca-7b" / "annotations.json"
    assert main(["audit", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["judge"] == "alpaca_eval_gpt4"
    assert found["win_rate"] == pytest.approx(26.459627329192543, abs=1e-12)
    assert found["prefers_longer"] == pytest.approx(68, abs=1)  # theirs is over another set of outputs
    assert found["prefers_first"] == pytest.approx(50, abs=2)
    assert found["first_win_rate"] == pytest.approx(50.43478260869565, abs=1e-12)


def test_the_command_asks_a_judge_about_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_annotations(tmp_path / "a.json", ROWS)
    assert main(["audit", str(tmp_path / "a.json"), "judge=reference", "--sample", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reference:word_f1_proxy, against the verdicts of people"
    assert lines[2].split() == ["rows", "4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["judge=nobody"],
            "Could not find 'judge/nobody' Available options in 'judge': alpaca_eval",
        ),
        (["judge=endpoint", "judge.order=random"], "judge.order='random': input should be 'alpaca_eval' or 'both'"),
        (["judge=endpoint", "judge.flavour=x"], "judge.flavour: there is no such key"),
        (["alpha=3"], "alpha: expected judge=NAME, judge/prompt=NAME or judge.KEY=VALUE"),
        (["--sample", "7"], "--sample=7:"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_annotations(tmp_path / "a.json", ROWS)
    assert main(["audit", str(tmp_path / "a.json"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_overrides_are_read_as_in_the_main_command() -> None:
    config = judge_config(["judge=endpoint", "judge.temperature=0.5", "judge.labels=[X,Y]"])
    assert (config.temperature, config.labels, config.order) == (0.5, ["X", "Y"], "both")
    composed = judge_config(["judge=alpaca_eval_gpt4"])  # laid over another file of conf/judge
    assert (composed.name, composed.annotators_config) == ("alpaca_eval_gpt4", "alpaca_eval_gpt4")
    assert composed.python == ".venv-alpaca-eval/bin/python"


def test_options_may_stand_before_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = {"generator_1": "a", "generator_2": "b", "annotator": "x", "output_1": "right", "output_2": "wrong"}
    rows = [{"instruction": f"Q{n}", **identity, "preference": 1.0} for n in range(4)]
    write_annotations(tmp_path / "annotations.json", rows)
    path = str(tmp_path / "annotations.json")
    for words in (["--sample", "2", "judge=reference"], ["judge=reference", "--sample", "2"]):
        assert main(["audit", path, *words]) == 0
        assert "reference:word_f1_proxy" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["audit", path, "--sample", "2", "judge=reference", "--nonsense"])
    with pytest.raises(SystemExit):
        main(["score", path, "judge=reference"])
