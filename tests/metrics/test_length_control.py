"""The length-controlled win rate: the published figure, the choice of C, and the instructions it accepts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.metrics import length_controlled_win_rate, load_difficulty, load_gamed, reference_positions
from harness.metrics.length_control import GRID, _folds, _order_of_ties

pytest.importorskip("sklearn", reason="needs the extra `judge`")

ALPACA_EVAL = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
needs_data = pytest.mark.skipif(not ALPACA_EVAL.is_dir(), reason="needs the released files in ../shared")
DIFFICULTY = ALPACA_EVAL / "instruction_difficulty_reconstructed.csv"
GAMED = ALPACA_EVAL / "df_gamed_reconstructed.csv"

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def released() -> Rows:
    rows: Rows = json.loads((ALPACA_EVAL / "alpaca-7b" / "annotations.json").read_bytes())
    return rows


@pytest.fixture(scope="module")
def published(released: Rows) -> dict[str, Any]:
    return length_controlled_win_rate(released, DIFFICULTY, GAMED)


def _synthetic(n: int = 60, length_effect: float = 0.0, seed: int = 0) -> tuple[Rows, dict[str, float], pd.DataFrame]:
    """Rows whose verdicts depend on length with the given log-odds, and gamed rows without an effect."""
    generator = np.random.default_rng(seed)
    delta = generator.integers(-50, 51, size=n)
    rows = []
    for row, characters in enumerate(delta):
        fraction = 1 / (1 + math.exp(-length_effect * math.tanh(characters / delta.std(ddof=1))))
        texts = {"output_1": "x" * (100 + int(characters)), "output_2": "y" * 100}
        rows.append({"instruction": f"task {row}", **texts, "preference": 1 + fraction})
    difficulty = {f"task {row}": float(value) for row, value in enumerate(generator.normal(size=n))}
    gamed = {"preference": 0.5, "std_delta_len": generator.normal(size=40), "instruction_difficulty": 0.0}
    return rows, difficulty, pd.DataFrame(gamed)


@needs_data
def test_published_figure_of_alpaca_7b(published: dict[str, Any]) -> None:
    # 1e-6: the gamed table is a reconstruction whose sums are exact to about 1e-7
    assert published["length_controlled_winrate"] == pytest.approx(26.294955, abs=1e-6)
    assert published["C"] == pytest.approx(2.7825594, abs=1e-7)
    assert published["win_rate"] == pytest.approx(26.459627329192543, abs=1e-9)
    assert not published["C_is_given"]


@needs_data
def test_a_given_c_gives_the_same_figure(released: Rows, published: dict[str, Any]) -> None:
    given = length_controlled_win_rate(pd.DataFrame(released), DIFFICULTY, GAMED, C=2.7825594)
    # 1e-6: C is rounded at the 8th digit
    assert given["length_controlled_winrate"] == pytest.approx(26.294955, abs=1e-6)
    assert given["C_is_given"]
    assert given["by_C"] == published["by_C"]


@needs_data
def test_the_range_shows_what_hangs_on_c(published: dict[str, Any]) -> None:
    rates = {row["C"]: row["length_controlled_winrate"] for row in published["by_C"]}
    assert tuple(rates) == GRID
    assert rates[GRID[0]] == 50  # a penalty this strong leaves no weight
    assert published["lc_low"] == min(list(rates.values())[4:])
    assert published["lc_high"] == pytest.approx(rates[GRID[4]])
    best = min(published["by_C"], key=lambda row: row["cv_log_loss"])
    assert best["C"] == published["C"]


@needs_data
def test_another_order_of_the_rows_gives_the_same_rates(released: Rows, published: dict[str, Any]) -> None:
    # 1e-3: the solver stops at tolerance 1e-4, at a place that depends on the order of summation;
    # difficulties that went to other instructions would move the rates by points
    turned = length_controlled_win_rate(released[::-1], DIFFICULTY, GAMED, C=published["C"])
    for one, other in zip(turned["by_C"], published["by_C"], strict=True):
        assert one["length_controlled_winrate"] == pytest.approx(other["length_controlled_winrate"], abs=1e-3)


@needs_data
def test_difficulty_stays_with_its_instruction_when_rows_are_missing(released: Rows) -> None:
    part = released[3:]
    own = load_difficulty(DIFFICULTY, [row["instruction"] for row in part])
    by_index = pd.read_csv(DIFFICULTY)["instruction_difficulty"]
    assert list(own.values()) == by_index.tolist()[3:]


@needs_data
def test_null_verdicts_leave_the_fit_but_not_the_mean(released: Rows) -> None:
    rows = [{**row, "preference": None} if number == 0 else row for number, row in enumerate(released)]
    result = length_controlled_win_rate(rows, DIFFICULTY, GAMED, C=2.7825594)
    assert (result["n_total"], result["n_dropped"], result["n_instructions"]) == (804, 1, 805)
    assert result["length_controlled_winrate"] == pytest.approx(26.295, abs=0.2)  # one verdict of 805 is 0.12 points


@needs_data
def test_other_instructions_are_refused(released: Rows) -> None:
    strange = [{**released[0], "instruction": released[0]["instruction"] + " "}, *released[1:]]
    with pytest.raises(ValueError, match=r"1 of 805 instructions are not among AlpacaEval's.*row 0"):
        length_controlled_win_rate(strange, DIFFICULTY, GAMED)
    with pytest.raises(ValueError, match="rows 0 and 805 hold the same instruction"):
        length_controlled_win_rate([*released, released[0]], DIFFICULTY, GAMED)


@needs_data
def test_the_shipped_order_is_that_of_the_reference_outputs() -> None:
    reference = json.loads((ALPACA_EVAL / "reference_davinci003.json").read_bytes())
    assert reference_positions([row["instruction"] for row in reference]) == list(range(805))


def test_without_a_length_effect_it_is_the_plain_rate() -> None:
    rows, difficulty, gamed = _synthetic(length_effect=0.0)
    result = length_controlled_win_rate(rows, difficulty, gamed, C=100.0)
    assert result["length_controlled_winrate"] == pytest.approx(50, abs=1e-3)  # the solver's tolerance


def test_a_pure_length_effect_is_taken_out() -> None:
    """The reference is longer in all rows and that helps the model: raw rate high, controlled rate 50."""
    rows, difficulty, gamed = _synthetic(n=400, length_effect=2.0, seed=1)
    longer = [row for row in rows if len(row["output_1"]) > 100]
    result = length_controlled_win_rate(longer, difficulty, gamed, C=100.0)
    assert result["win_rate"] > 70
    # 5 points: the sd of the kept half differs from the sd behind the verdicts, so tanh fits them only nearly
    assert result["length_controlled_winrate"] == pytest.approx(50, abs=5)
    assert result["length_weight"] > 1


def test_a_model_against_itself_has_50() -> None:
    rows, difficulty, gamed = _synthetic()
    same = [{**row, "generator_1": "m", "generator_2": "m"} for row in rows]
    result = length_controlled_win_rate(same, difficulty, gamed)
    assert (result["length_controlled_winrate"], result["lc_standard_error"], result["C"]) == (50, 0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [{**rows[0], "annotator": "a"}, {**rows[1], "annotator": "b"}],
            "annotator has several values",
        ),
        (
            lambda rows: [{**row, "generator_2": row["instruction"]} for row in rows],
            "generator_2 has several",
        ),
        (
            lambda rows: [{k: v for k, v in row.items() if k != "output_1"} for row in rows],
            "'output_1' is missing",
        ),
        (lambda rows: [{**rows[0], "output_2": None}, *rows[1:]], "row 0: output_2 is None"),
        (lambda rows: rows[:1], "1 rows, expected at least 2"),
        (lambda rows: [{**row, "output_1": "xx", "output_2": "x"} for row in rows], "differ by 1 characters"),
        (lambda rows: [*rows, rows[0]], "given twice: 'task 0'"),
        (lambda rows: [*rows, {**rows[0], "instruction": "new"}], "no difficulty for 1 of 61 instructions"),
    ],
)
def test_what_is_refused(change: Any, message: str) -> None:
    rows, difficulty, gamed = _synthetic()
    with pytest.raises(ValueError, match=message):
        length_controlled_win_rate(change(rows), difficulty, gamed)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_c_must_be_positive(value: float) -> None:
    rows, difficulty, gamed = _synthetic()
    with pytest.raises(ValueError, match=r"C is .*, expected a positive number"):
        length_controlled_win_rate(rows, difficulty, gamed, C=value)


def test_tables_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("instruction,instruction_difficulty\na,1.5\nb,2\n")
    assert load_difficulty(path, ["b", "a"]) == {"b": 2.0, "a": 1.5}
    path.write_text("instruction,instruction_difficulty\na,1.5\na,2\n")
    with pytest.raises(ValueError, match=r"table\.csv: 'a' is given twice"):
        load_difficulty(path, ["a"])
    path.write_text("instruction,instruction_difficulty\na,hard\n")
    with pytest.raises(ValueError, match="row 0: instruction_difficulty is 'hard'"):
        load_difficulty(path, ["a"])
    path.write_text("instruction,weight\na,1\n")
    with pytest.raises(ValueError, match="no column 'instruction_difficulty'"):
        load_difficulty(path, ["a"])
    with pytest.raises(ValueError, match="no column 'preference'"):
        load_gamed(path)
    path.write_text("preference,std_delta_len,instruction_difficulty\n1.5,0,0\n")
    with pytest.raises(ValueError, match=r"row 0: preference is 1\.5"):
        load_gamed(path)


@needs_data
def test_a_table_by_position_may_lack_rows(released: Rows) -> None:
    table = pd.read_csv(DIFFICULTY, index_col=0)  # position in the DataFrame's own index
    first = [released[0]["instruction"]]
    assert load_difficulty(table, first) == {first[0]: table["instruction_difficulty"][0]}
    with pytest.raises(ValueError, match="no row for index 0"):
        load_difficulty(table.drop(index=0), first)


def test_folds_are_those_of_the_published_choices() -> None:
    # what numpy 1.24.4 answers to np.argsort(np.full(17, 2)), and for 2415 the sum of order * position
    assert _order_of_ties(list(range(17))) == [0, 14, 13, 12, 11, 10, 9, 15, 8, 6, 5, 4, 3, 2, 1, 7, 16]
    order = np.array(_order_of_ties(list(range(2415))))
    assert int((order * np.arange(2415)).sum()) == 2818033607
    assert np.bincount(_folds(2415)).tolist() == [483] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as CSV"),
        (b'a,"b\n', "cannot be read as CSV"),
        (b"\xff\xfe\x80,1\n", "cannot be read as CSV"),
    ],
)
def test_a_table_that_is_none_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    for load in (lambda: load_difficulty(path, ["a"]), lambda: load_gamed(path)):
        with pytest.raises(ValueError, match=rf"table\.csv: {message}"):
            load()


def test_a_device_is_no_table() -> None:
    with pytest.raises(ValueError, match="/dev/zero: no such file"):
        load_gamed("/dev/zero")
