"""Bad data get one error that names file, row, key and value, before anything starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.config import DatasetConfig, EvalSetConfig
from harness.data import load_dataset, load_eval_items, load_examples
from harness.record.content import path_fingerprint

GOOD = {"instruction": "Say hello", "input": "", "output": "hello"}


def write(path, content) -> str:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


def alpaca(path: str, **keys) -> DatasetConfig:
    return DatasetConfig(name="alpaca", path=path, **{"heldout": 0, **keys})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"  \n", "the file is empty"),
        (b"[]", "holds no rows"),
        ([GOOD, {"instruction": "x"}], "row 2: key 'output' is missing"),
        ([GOOD, GOOD, {**GOOD, "output": 7}], "row 3: key 'output' must be text, found int: '7'"),
        (
            [{**GOOD, "output": ""}],
            "row 1: the answer is empty: ''; fix the file, or set dataset.clean.empty=",
        ),
        ([GOOD, "text"], "row 2: expected an object with keys, found 'text'"),
        (
            b'[{"instruction": "a", "output": "b"}, {"instruction": ]',
            "row 2: broken JSON at line 1, column 55",
        ),
        (b'{"instruction": "a", "output": "b\0"}', "(a NUL byte); the file is damaged: get it again, or remove row 1"),
        (b'{"instruction": "a", "output": "b"}\n\n{"instruction"', "row 2: broken JSON at line 3"),
        ('[{"instruction": "a", "output": "é"}]'.encode("latin-1"), "not UTF-8: byte 0xe9 at byte 33"),
        (b'[{"instruction": "a", "output": 1' + b"0" * 5000 + b"}]", "row 1: holds an integer of thousands of digits"),
        (b'{"instruction": "a", "output": "b"}\n{"output": 1' + b"0" * 5000 + b"}", "row 2: holds an integer of thous"),
    ],
)
def test_broken_files(tmp_path, content, message):
    path = write(tmp_path / "data.json", content)
    with pytest.raises(ValueError, match=r"data\.json: ") as error:
        load_examples(alpaca(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pipe_or_a_device_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="is not a file but a pipe or a device"):
            load_examples(alpaca(str(path)))
        with pytest.raises(ValueError, match="not a regular file"):
            path_fingerprint(str(path))


def test_missing_file_and_missing_path():
    with pytest.raises(ValueError, match=r"no/such\.json: no such file"):
        load_examples(alpaca("no/such.json"))
    with pytest.raises(ValueError, match=r"dataset.path: is missing; give the file as dataset.path=FILE"):
        load_examples(DatasetConfig(name="alpaca"))


def test_too_few_rows(tmp_path):
    path = write(tmp_path / "data.json", [GOOD] * 3)
    with pytest.raises(ValueError, match="3 examples, but size and heldout=2 ask for at least 6"):
        load_examples(alpaca(path, size=4, heldout=2))


def test_json_lines_with_byte_order_mark(tmp_path):
    lines = "\n".join(json.dumps({**GOOD, "instruction": f"say {i}"}) for i in range(5))
    path = write(tmp_path / "data.jsonl", ("\ufeff" + lines + "\n").encode())
    train, heldout = load_examples(alpaca(path, heldout=2))
    assert sorted(e.instruction for e in train + heldout) == [f"say {i}" for i in range(5)]
    assert len(heldout) == 2


def test_the_split_depends_on_the_data_seed_alone(tmp_path):
    path = write(tmp_path / "data.json", [{**GOOD, "instruction": str(i)} for i in range(20)])
    assert load_examples(alpaca(path, heldout=5)) == load_examples(alpaca(path, heldout=5))
    assert load_examples(alpaca(path, heldout=5))[1] != load_examples(alpaca(path, heldout=5, seed=1))[1]


def test_eval_file_with_a_repeated_instruction(tmp_path):
    rows = [{"instruction": "a", "output": "x"}, {"instruction": "a", "output": "y"}]
    path = write(tmp_path / "eval.json", rows)
    with pytest.raises(ValueError, match=r"row 2: key 'instruction' repeats that of .*row 1"):
        load_eval_items(EvalSetConfig(name="alpaca_eval", path=path))


def test_builtin_training_and_evaluation_share_no_instruction():
    train, heldout = load_examples(DatasetConfig(name="builtin", size=500, heldout=50))
    items = load_eval_items(EvalSetConfig(name="builtin", heldout=60, unseen=20))
    seen = {(e.instruction, e.input) for e in train + heldout}
    assert len(seen) == 550
    assert not seen & {(item.instruction, item.input) for item in items}


def test_builtin_text_is_plain_and_shares_nothing_with_what_is_held_out(compose):
    train, heldout = load_examples(compose("dataset=builtin_text", "dataset.size=300", "dataset.heldout=50").dataset)
    assert len({example.output for example in (*train, *heldout)}) == 350
    assert {(example.instruction, example.input) for example in (*train, *heldout)} == {("", "")}
    assert len(train) == 300
    other = compose("dataset=builtin_text", "dataset.size=300", "dataset.heldout=50", "dataset.seed=7").dataset
    assert {example.output for example in load_examples(other)[0]} != {example.output for example in train}


def test_real_alpaca_eval_file(shared_data):
    items = load_eval_items(
        EvalSetConfig(name="alpaca_eval", path=str(shared_data / "alpaca_eval" / "reference_davinci003.json"), limit=16)
    )
    assert len(items) == 16
    assert items[0].generator == "text_davinci_003"
    assert items[0].family == "helpful_base"


@pytest.mark.parametrize(
    ("load", "config", "message"),
    [
        (load_dataset, DatasetConfig(name="builtin", path="x.json"), r"dataset\.path=x\.json: .* choose dataset=local"),
        (load_eval_items, EvalSetConfig(name="builtin", heldout=4, path="x"), r"eval_set\.path=x: .*alpaca_eval"),
        (load_eval_items, EvalSetConfig(name="builtin", heldout=4, limit=2), r"eval_set\.limit=2: .*eval_set\.heldout"),
    ],
)
def test_a_generated_set_drops_no_key_without_a_word(load, config, message):
    with pytest.raises(ValueError, match=message):
        load(config)


@pytest.mark.parametrize("name", ["builtin", "builtin_text"])
@pytest.mark.parametrize("key", ["size", "heldout"])
def test_no_more_is_generated_than_takes_seconds(name, key):
    with pytest.raises(ValueError, match=rf"dataset\.{key}=99999999: at most 200,000 are generated"):
        load_dataset(DatasetConfig(name=name, **{key: 99_999_999}))


@pytest.mark.parametrize("key", ["heldout", "unseen"])
def test_no_more_instructions_are_generated_than_takes_seconds(key):
    with pytest.raises(ValueError, match=rf"eval_set\.{key}=99999999: at most 200,000 are generated"):
        load_eval_items(EvalSetConfig(name="builtin", **{key: 99_999_999}))
