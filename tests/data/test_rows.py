"""Layouts of public data sets, and the fields that other trainers act on: used, refused or counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import CleaningConfig, DatasetConfig
from harness.data import load_dataset
from harness.data.load import Loaded

QA = [("q0", "a0"), ("q1", "a1")]
PLAIN = [("q0", "", "a0", "", ()), ("q1", "", "a1", "", ())]


def load(folder: Path, content: Any, name: str = "data.json", **clean: str) -> Loaded:
    path = folder / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    load_dataset.cache_clear()
    rules = CleaningConfig.model_validate({"empty": "error", **clean})
    return load_dataset(DatasetConfig(name="local", path=str(path), prompt="vicuna_v1.1", heldout=0, clean=rules))


def contents(loaded: Loaded) -> list[Any]:
    return [each.content for each in sorted(loaded.examples, key=lambda each: each.where)]


def talk(*messages: tuple[str, str], **keys: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in messages], **keys}


@pytest.mark.parametrize(
    ("content", "schema"),
    [
        ([{"question": q, "response": a} for q, a in QA], "openorca"),
        ([{"question": q, "answer": a} for q, a in QA], "question_answer"),
        ([{"prompt": q, "completion": a} for q, a in QA], "prompt_completion"),
        ([{"conversations": [q, a]} for q, a in QA], "sharegpt"),  # LIMA
        (
            [{"messages": [{"role": "prompter", "text": q}, {"role": "assistant", "text": a}]} for q, a in QA],
            "messages",
        ),
        ([{"conversations": {"from": ["human", "gpt"], "value": [q, a]}} for q, a in QA], "sharegpt"),
        ([talk(("User", q), ("ASSISTANT", a)) for q, a in QA], "messages"),
        ({"instruction": ["q0", "q1"], "output": ["a0", "a1"]}, "alpaca"),
        ({str(n): {"instruction": q, "output": a} for n, (q, a) in enumerate(QA)}, "alpaca"),
        (gzip.compress(json.dumps([{"instruction": q, "output": a} for q, a in QA]).encode(), mtime=0), "alpaca"),
        ([{"instruction": q, "output": a, "messages": None} for q, a in QA], "alpaca"),
        ([{"instruction": None, "output": None, **talk(("user", q), ("assistant", a))} for q, a in QA], "messages"),
    ],
)
def test_common_shapes_are_read(tmp_path, content, schema):
    loaded = load(tmp_path, content)
    assert contents(loaded) == PLAIN
    assert loaded.report.schema == schema


def test_one_chat_in_a_file_of_one_line_is_a_row_and_no_table(tmp_path):
    for row in (talk(("user", "q0"), ("assistant", "a0")), {"conversations": ["q0", "a0"]}):
        assert contents(load(tmp_path, row)) == PLAIN[:1]
    columns = {"conversations": {"from": ["human", "gpt"], "value": ["q0", "a0"]}}
    assert contents(load(tmp_path, columns)) == PLAIN[:1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"prompt": "q", "chosen": "a", "rejected": "b"}], "row 1: unknown layout .*pairs for preference training"),
        ([{"question": "q", "answer": "a", "response": "b"}], "row 1: keys of openorca and question_answer in one row"),
        ([talk(("user", "q"), ("assistant", "a")), {"id": "7"}], r"row 2: key 'messages' is missing \(keys: 'id'\)"),
        ([talk(("user", "q"), ("assistant", "a")), {"messages": None}], "row 2: key 'messages' must be a list"),
        ([{"conversations": {"from": ["human"], "value": ["q", "a"]}}], "row 1: .*different lengths: {'from': 1"),
        ([{"conversations": ["q", {"from": "gpt", "value": "a"}]}], "row 1: .*texts beside messages"),
        ([{"messages": [{"role": "user", "content": "q", "text": "p"}]}], "'content' and 'text' say different things"),
        ([{"messages": [{"role": "user", "content": [{"type": "text"}]}]}], "row 1: message 1: .* a list of parts"),
        (b'[{"instruction": "q", "output": "b", "output": "a"}]', "row 1: key 'output' occurs twice in one object"),
        (b'{"instruction": "q", "output": "a"}\n{"output": "b", "output": "a"}', "row 2: key 'output' occurs twice"),
        (b'[{"instruction": "q", "output": "a"},\n]', "line 2, column 1: .*the comma before it is one too many"),
        ('[{"output": "a"}]'.encode("utf-16"), "is UTF-16: convert it"),
        (gzip.compress(b"[" * 1000, mtime=0)[:-12], "broken gzip: .*; get the file again"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed by zstd"),
        ([{"instruction": "q", "output": "a", "image": "cat.png"}], "row 1: key 'image' holds pictures or sound"),
        (
            [{"instruction": "q", "output": "a", "history": [["x"]]}],
            r"row 1: key 'history' must be a list of \[question",
        ),
        ([talk(("user", "q"), ("assistant", "a"), tools=[{"name": "f"}])], "key 'tools' offers .*clean.tools=drop"),
        ([talk(("user", "q"), ("tool", "42"))], "message 2: is from 'tool', .*clean.tools=drop"),
        ([talk(("system", "x"), ("user", "q"), ("assistant", "a"), system="y")], "hold two system messages"),
        (
            [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5}]}],
            "row 1: message 2: key 'weight' must be 0 or 1 .* found 0.5",
        ),
    ],
)
def test_what_is_not_read_is_refused_with_the_row_and_what_to_do(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path, content)
    assert "data.json: " in str(caught.value)


def test_system_and_history_of_alpaca_rows_are_used(tmp_path):
    row = {"instruction": "i", "input": "x", "output": "o", "system": "S", "history": [["q0", "a0"], ["q1", "a1"]]}
    assert contents(load(tmp_path, [row])) == [("q0", "", "a0", "S", (("q1", "a1"), ("i\n\nx", "o")))]
    assert contents(load(tmp_path, [{**row, "history": []}])) == [("i", "x", "o", "S", ())]
    openorca = {"system_prompt": "S", "question": "q", "response": "a"}
    assert contents(load(tmp_path, [openorca])) == [("q", "", "a", "S", ())]


def test_a_system_text_beside_the_messages_is_used(tmp_path):
    row = talk(("user", "q"), ("assistant", "a"), system="S")
    assert contents(load(tmp_path, [row])) == [("q", "", "a", "S", ())]
    same = talk(("system", "S"), ("user", "q"), ("assistant", "a"), system="S")
    assert contents(load(tmp_path, [same])) == [("q", "", "a", "S", ())]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss": False}, {"train": False}])
def test_answers_of_weight_0_are_given_and_not_learnt(tmp_path, mark):
    bad, good = {"role": "assistant", "content": "bad", **mark}, {"role": "assistant", "content": "good"}
    asked = {"role": "user", "content": "q"}
    loaded = load(tmp_path, [{"messages": [asked, bad, asked, good]}, {"messages": [asked, bad]}])
    assert [each.unlearnt for each in loaded.examples] == [(0,)]
    assert "1 with answers of weight 0, which are not learnt" in loaded.describe()
    assert "1 left out: weight 0 on every answer; " in loaded.describe()


def test_keys_that_are_not_used_are_counted(tmp_path):
    rows = [{"instruction": "q", "output": "a", "score": 3, "text": None}, {"instruction": "p", "output": "b"}]
    assert load(tmp_path, rows).describe().endswith("2 left; keys not used: 'score' (1 rows)")
    named = {"messages": [{"role": "user", "content": "q", "name": "Ann"}, {"role": "assistant", "content": "a"}]}
    assert load(tmp_path, [named]).describe().endswith("keys not used: of a message 'name' (1 rows)")


def test_rows_with_tools_are_dropped_on_request(tmp_path):
    rows = [talk(("user", "q0"), ("assistant", "a0")), talk(("user", "q"), ("assistant", "a"), tools=[{"name": "f"}])]
    loaded = load(tmp_path, rows, tools="drop")
    assert contents(loaded) == PLAIN[:1]
    assert "1 dropped by clean.tools" in loaded.describe()


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_a_path_is_no_pattern(tmp_path, suffix):
    from datasets import Dataset

    for name, answer in (("plain1", "wrong"), ("plain[1]", "right"), ("plain*", "also right")):
        rows = [{"instruction": "q", "output": answer}]
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            Dataset.from_list(rows).to_parquet(path)
        else:
            path.write_text(json.dumps(rows))
    for name, answer in (("plain[1]", "right"), ("plain*", "also right")):
        loaded = load_dataset(DatasetConfig(name="local", path=str(tmp_path / f"{name}.{suffix}"), heldout=0))
        assert [each.output for each in loaded.examples] == [answer]
