"""AlpacaEval's files: every variant reads, nothing is lost on the way back, and each fault is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.annotations import (
    join_on_instruction,
    order_is_switched,
    pair_outputs,
    read_annotations,
    read_model_outputs,
    write_annotations,
)
from harness.metrics import win_rate

ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
needs_data = pytest.mark.skipif(not ALPACA_EVAL.is_dir(), reason="needs the released files in ../shared")


def _output(instruction: str = "Say hi.", **changes: Any) -> dict[str, Any]:
    return {"dataset": "koala", "instruction": instruction, "output": "hi", "generator": "m", **changes}


def _annotation(instruction: str = "Say hi.", **changes: Any) -> dict[str, Any]:
    row = {
        "instruction": instruction,
        "output_1": "hello",
        "generator_1": "base",
        "output_2": "hi",
        "generator_2": "m",
        "annotator": "judge",
        "preference": 1.25,
    }
    return {**row, **changes}


def _file(tmp_path: Path, rows: Any) -> Path:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (1, 1.0),
        (2, 2.0),
        (1.5, 1.5),
        (0, 1.5),
        (0.0, 1.5),
        (1.25, 1.25),
        (None, None),
        (float("nan"), None),
        (-1, None),
    ],
)
def test_preferences_of_every_age(tmp_path: Path, stored: Any, expected: float | None) -> None:
    assert read_annotations(_file(tmp_path, [_annotation(preference=stored)]))[0]["preference"] == expected


def test_names_of_0_6_read_and_write(tmp_path: Path) -> None:
    new: dict[str, Any] = {
        "preference_price_per_example": 0.01,
        "preference_time_per_example": None,
        "preference_raw_completion": {"choices": []},
        "preference_date": "2024-05-01",
        "preference_version": "0.6.2",
    }
    path = _file(tmp_path, [_annotation(**new, metadata="kept")])
    rows = read_annotations(path)
    assert rows[0]["price_per_example"] == 0.01
    assert rows[0]["raw_completion"] == {"choices": []}
    assert rows[0]["metadata"] == "kept"
    assert not any(key.startswith("preference_") for key in rows[0])
    write_annotations(path, rows, names="0.6")
    assert json.loads(path.read_bytes())[0].items() >= new.items()
    assert read_annotations(path) == rows
    write_annotations(path, rows)
    assert set(json.loads(path.read_bytes())[0]) == set(rows[0])


texts = st.text(st.characters(), max_size=20)  # includes unpaired surrogates, U+2028 and control characters


@given(st.lists(texts.filter(bool), unique=True, min_size=1, max_size=5), texts)
def test_every_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], output: str
) -> None:
    path = tmp_path_factory.mktemp("outputs") / "model_outputs.json"
    rows = [_output(instruction, output=output) for instruction in keys]
    path.write_text(json.dumps(rows), encoding="ascii")
    assert read_model_outputs(path) == rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": 1}, "expected a list"),
        ([], "expected a list with at least one row"),
        (["x"], "row 0 is 'x', expected an object"),
        (
            [_output(), {"instruction": "b", "generator": "m"}],
            "row 1: key 'output' is missing; found instruction, gen",
        ),
        ([_output(output=None)], "row 0: key 'output' is None, expected text"),
        ([_output(generator=3)], "row 0: key 'generator' is 3"),
        ([_output("")], "row 0: key 'instruction' is empty"),
        ([_output(dataset=["koala"])], r"row 0: key 'dataset' is \['koala'\]"),
        ([_output(), _output("b"), _output()], r"rows 0 and 2 have the same instruction 'Say hi\.'"),
    ],
)
def test_model_outputs_name_the_fault(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"rows\.json: {message}"):
        read_model_outputs(_file(tmp_path, rows))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference": 2.5}, r"row 0: key 'preference' is 2\.5, expected a number from 1 to 2"),
        ({"preference": "2"}, "row 0: key 'preference' is '2'"),
        ({"preference": True}, "row 0: key 'preference' is True"),
        ({"preference": float("inf")}, "row 0: key 'preference' is inf"),
        ({"output_2": None}, "row 0: key 'output_2' is None"),
        ({"price_per_example": "free"}, "row 0: key 'price_per_example' is 'free'"),
        ({"date": "a", "preference_date": "b"}, "row 0: key 'date' occurs twice"),
    ],
)
def test_annotations_name_the_fault(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"rows\.json: {message}"):
        read_annotations(_file(tmp_path, [_annotation(**changes)]))


def test_missing_keys_and_repeats_of_annotations(tmp_path: Path) -> None:
    for key in ("preference", "annotator", "generator_1"):
        row = {name: value for name, value in _annotation().items() if name != key}
        with pytest.raises(ValueError, match=f"row 0: key '{key}' is missing"):
            read_annotations(_file(tmp_path, [row]))
    with pytest.raises(ValueError, match="rows 0 and 1 have the same instruction"):
        read_annotations(_file(tmp_path, [_annotation(), _annotation()]))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"instruction": ')
    with pytest.raises(ValueError, match=r"rows\.json: not valid JSON"):
        read_annotations(path)
    path.write_bytes(b'["\xff"]')
    with pytest.raises(ValueError, match=r"rows\.json: not valid JSON"):
        read_annotations(path)


def test_what_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.raises(ValueError, match="'preference' is 3"):
        write_annotations(path, [_annotation(preference=3)])
    with pytest.raises(ValueError, match=r"names is '0\.5'"):
        write_annotations(path, [_annotation()], names="0.5")  # type: ignore[arg-type]
    assert not path.exists()


def test_the_join_is_exact_and_reports_the_rest() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    outputs = [_output("a "), _output(composed), _output("same"), _output("mine")]
    reference = [
        _output("a", output="A"),
        _output("same", output="S"),
        _output(decomposed),
        _output("theirs"),
    ]
    rows, report = pair_outputs(outputs, reference)
    assert [(row["instruction"], row["output_1"], row["output_2"]) for row in rows] == [("same", "S", "hi")]
    assert report.n_joined == 1
    assert report.only_left == ("a ", composed, "mine")
    assert report.only_right == ("a", decomposed, "theirs")
    assert report.near_misses == (("a ", "a"), (composed, decomposed))
    assert not report.complete
    assert report.describe("outputs", "reference").startswith("1 joined, 3 only in outputs, 3 only in reference\n")


def test_the_join_keeps_the_right_sides_order_and_refuses_repeats() -> None:
    left = [_output("b"), _output("a")]
    right = [_output("a", output="1"), _output("b", output="2")]
    pairs, report = join_on_instruction(left, right)
    assert [(one["instruction"], other["output"]) for one, other in pairs] == [("a", "1"), ("b", "2")]
    assert report.complete
    with pytest.raises(ValueError, match="left: rows 0 and 2 have the same instruction 'b'"):
        join_on_instruction([*left, _output("b")], right)


@needs_data
def test_released_files_read() -> None:
    outputs = read_model_outputs(ALPACA_EVAL / "alpaca-7b" / "model_outputs.json")
    reference = read_model_outputs(ALPACA_EVAL / "reference_davinci003.json")
    rows, report = pair_outputs(outputs, reference)
    assert report.complete
    annotations = read_annotations(ALPACA_EVAL / "alpaca-7b" / "annotations.json")
    for judged, row in zip(annotations, rows, strict=True):
        assert {key: judged[key] for key in row} == row


@needs_data
def test_the_order_rule_of_alpaca_eval() -> None:
    reference = read_model_outputs(ALPACA_EVAL / "reference_davinci003.json")
    switched = [order_is_switched(row["instruction"], 0) for row in reference]
    assert sum(switched) == 406
    # a judge that always answers "first" prefers the model exactly where the order is switched
    row = win_rate([2 if first else 1 for first in switched])
    assert row["win_rate"] == pytest.approx(50.43478260869565, abs=1e-12)
    assert row["standard_error"] == pytest.approx(1.763297370558601, abs=1e-12)
    assert sum(order_is_switched(row["instruction"], 1) for row in reference) != 406
