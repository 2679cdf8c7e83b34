"""Layouts are told apart, rows that need cleaning are named or counted, and nothing else happens to the others."""

from __future__ import annotations

import json

import pytest

from harness.config import CleaningConfig, DatasetConfig
from harness.data import load_dataset

HI = {"instruction": "Say hi", "output": "hi"}
TALK = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]


def sharegpt(*turns: tuple[str, str], **keys) -> dict:
    return {**keys, "conversations": [{"from": name, "value": text} for name, text in turns]}


def messages(*turns: tuple[str, str]) -> dict:
    return {"messages": [{"role": name, "content": text} for name, text in turns]}


def load(tmp_path, rows, prompt="vicuna_v1.1", clean=None, **keys):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    load_dataset.cache_clear()
    keys = {"heldout": 0, **keys}
    rules = CleaningConfig(**(clean or {}))
    return load_dataset(DatasetConfig(name="local", path=str(path), prompt=prompt, clean=rules, **keys))


def complaint(tmp_path, rows, **keys) -> str:
    with pytest.raises(ValueError, match=r"data\.json: row ") as error:
        load(tmp_path, rows, **keys)
    text = str(error.value)
    assert "\n" not in text
    return text.partition("data.json: ")[2]


@pytest.mark.parametrize(
    ("row", "schema", "expected"),
    [
        ({"instruction": "i", "input": "x", "output": "o", "text": "ignored"}, "alpaca", ("i", "x", "o", "", ())),
        ({"instruction": "i", "input": None, "output": "o"}, "alpaca", ("i", "", "o", "", ())),
        ({"instruction": "i", "context": "x", "response": "o", "category": "qa"}, "dolly", ("i", "x", "o", "", ())),
        (sharegpt(*TALK), "sharegpt", ("a", "", "b", "", (("c", "d"),))),
        (messages(("system", "s"), ("user", "a"), ("assistant", "b")), "messages", ("a", "", "b", "s", ())),
        (
            {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "sharegpt",
            ("a", "", "b", "", ()),
        ),
    ],
)
def test_layouts_are_detected_and_reported(tmp_path, row, schema, expected):
    loaded = load(tmp_path, [row])
    assert loaded.examples[0].content == expected
    assert f"data.json: {schema}, 1 rows; 1 left" in loaded.describe()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"title": "q", "text": "a"}],
            "row 1: unknown layout (keys: 'title', 'text'); expected",
        ),
        (
            [HI, sharegpt(*TALK)],
            "row 2: layout sharegpt, the rows before alpaca (keys: ",
        ),
        ([{**HI, **sharegpt(*TALK)}], "row 1: keys of alpaca and sharegpt in one row"),
        ([HI, {**HI, "instruction": ["a"]}], "row 2: key 'instruction' must be text, found list: \"['a']\""),
        ([{**HI, "input": 3}], "row 1: key 'input' must be text, found int: '3'"),
        ([{"messages": "a"}], "row 1: key 'messages' must be a list of messages, found str"),
        ([messages(("user", None))], "row 1: message 1: key 'content' must be text, found NoneType"),
        ([{"messages": [{"role": "user"}]}], "row 1: message 1: key 'content' is missing (keys: 'role')"),
        ([{"messages": [3]}], "row 1: message 1: expected an object with keys, found '3'"),
        ([sharegpt(("narrator", "a"))], "row 1: message 1: unknown role 'narrator' (known: human, user, prompter, "),
        ([sharegpt(("tool", "a"))], "row 1: message 1: is from 'tool', which no prompt here supports; fix the file"),
        ([sharegpt()], "row 1: no exchange of user and assistant; fix the file, or set dataset.clean.roles=drop or "),
        ([sharegpt(TALK[1], TALK[0])], "row 1: message 1 is from assistant, expected user; fix the file, or set"),
        ([sharegpt(*TALK[:2], TALK[1])], "row 1: message 3 is from assistant, expected user"),
        ([sharegpt(*TALK[:3])], "row 1: message 3, the last, is from user and has no answer"),
        ([messages(("user", "a"), ("system", "s"))], "row 1: message 2 is from system, expected assistant"),
        (
            [sharegpt(TALK[0], ("gpt", " \n"))],
            "row 1: the answer is empty: ' \\n'; fix the file, or set",
        ),
        ([sharegpt(*TALK[:2], ("human", ""), TALK[3])], "row 1: the instruction of exchange 2 is empty"),
        (
            [{**HI, "output": "a\0b"}],
            "row 1: key 'output' holds a NUL character at 1; fix",
        ),
        (
            [sharegpt(TALK[0], ("gpt", "é\ud83d"))],
            r"row 1: message 2: key 'value' holds half a surrogate pair (\ud83d)",
        ),
        ([sharegpt(*TALK, id="x"), sharegpt(*TALK, id="y"), sharegpt(*TALK, id="x")], "row 3: id 'x' repeats that of "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_rows_are_named_with_what_to_do(tmp_path, rows, message):
    assert complaint(tmp_path, rows).startswith(message)


def test_rules_drop_and_count(tmp_path):
    rows = [
        sharegpt(*TALK, id=1),
        sharegpt(("gpt", "x"), *TALK, id=2),
        sharegpt(TALK[0], ("gpt", "")),
        sharegpt(("human", "a\0"), TALK[1]),
        sharegpt(("human", "new"), TALK[1], id=1),
        sharegpt(*TALK),
    ]
    rules = dict.fromkeys(("damaged", "roles", "empty", "duplicate_ids", "duplicates"), "drop")
    loaded = load(tmp_path, rows, clean=rules)
    assert [example.where.partition(": ")[2] for example in loaded.examples] == ["row 1"]
    assert loaded.describe().endswith(
        "6 rows; 1 dropped by clean.damaged; 1 dropped by clean.duplicate_ids; 1 dropped by clean.duplicates; "
        "1 dropped by clean.empty; 1 dropped by clean.roles; 1 left"
    )


def test_repair_leaves_out_the_ends_that_splitting_leaves_and_drops_the_rest(tmp_path):
    rows = [
        sharegpt(("system", "s"), ("gpt", "x"), *TALK, ("human", "y")),
        sharegpt(*TALK, ("gpt", "twice")),
        sharegpt(("gpt", "alone")),
    ]
    with pytest.raises(ValueError, match="repair"):
        load(tmp_path, rows, clean={"roles": "error"})
    loaded = load(tmp_path, rows[:1], clean={"roles": "repair"})
    assert loaded.examples[0].content == ("a", "", "b", "s", (("c", "d"),))
    assert "1 repaired by clean.roles" in loaded.describe()
    loaded = load(tmp_path, rows, clean={"roles": "repair"})
    assert loaded.report.dropped == {"roles": 2}


def test_what_is_kept_is_kept(tmp_path):
    rows = [HI, HI, {**HI, "output": ""}]
    loaded = load(tmp_path, rows, clean={"empty": "keep"})
    assert len(loaded.examples) == 3
    assert complaint(tmp_path, rows, clean={"empty": "keep", "duplicates": "error"}).startswith(
        "row 2: the text repeats"
    )
    rows = [sharegpt(*TALK, id=1), sharegpt(*TALK, id=1)]
    assert len(load(tmp_path, rows, clean={"duplicate_ids": "keep"}).examples) == 2


def test_single_turn_takes_the_first_exchange_and_says_how_often(tmp_path):
    loaded = load(tmp_path, [sharegpt(*TALK), sharegpt(*TALK[:2])], turns="first", prompt="alpaca")
    assert {example.content for example in loaded.examples} == {("a", "", "b", "", ())}
    assert "1 conversations cut to their first exchange" in loaded.describe()


def test_the_alpaca_prompt_refuses_what_it_has_no_place_for(tmp_path):
    said = complaint(tmp_path, [sharegpt(*TALK)], prompt="alpaca")
    assert said.startswith("row 1: several exchanges, for which dataset.prompt=alpaca has no place; set dataset.turns=")
    rows = [messages(("system", "s"), ("user", "a"), ("assistant", "b"))]
    assert "set dataset.clean.system=drop" in complaint(tmp_path, rows, prompt="alpaca")
    assert "set dataset.clean.system=drop" in complaint(tmp_path, rows, prompt="none")
    loaded = load(tmp_path, rows, prompt="alpaca", clean={"system": "drop"})
    assert loaded.examples[0].system == ""
    assert "1 system messages left out" in loaded.describe()


def test_a_file_that_is_cut_off_says_so(tmp_path):
    text = json.dumps([sharegpt(*TALK, id=i) for i in range(50)], indent=1)
    path = tmp_path / "data.json"
    config = DatasetConfig(name="local", path=str(path), heldout=0)
    whole = text.index('"id": 30') - 4
    for end in (whole + 40, whole + 60, text.rindex("}")):
        path.write_text(text[:end])
        load_dataset.cache_clear()
        with pytest.raises(ValueError, match=r"json: row (31|50): broken JSON at line .*; the file is cut off inside"):
            load_dataset(config)
    path.write_text(text.replace('"human"', "human", 1))
    load_dataset.cache_clear()
    with pytest.raises(ValueError, match=r"row 1: broken JSON at line 6, column 13: Expecting value$"):
        load_dataset(config)
    path.write_text("\n".join(json.dumps(HI) for _ in range(3))[:-9])
    load_dataset.cache_clear()
    with pytest.raises(ValueError, match=r"row 3: .*; the file is cut off inside row 3: get it again, or keep the 2"):
        load_dataset(config)


def test_one_object_instead_of_rows_and_a_folder_and_deep_nesting(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"version": 1, "data": [HI]}, indent=1))
    config = DatasetConfig(name="local", path=str(path))
    with pytest.raises(ValueError, match="one object with keys 'version', 'data'; expected an array of rows, or"):
        load_dataset(config)
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"data\.json: "):
        load_dataset(config)
    with pytest.raises(ValueError, match="is a folder; give one file"):
        load_dataset(DatasetConfig(name="local", path=str(tmp_path)))


def test_parquet_is_told_by_its_content_and_equals_json(tmp_path):
    from datasets import Dataset

    rows = [{**sharegpt(*TALK), "id": str(i)} for i in range(5)]
    Dataset.from_list(rows).to_parquet(tmp_path / "conversations.data")
    config = DatasetConfig(name="local", path=str(tmp_path / "conversations.data"), prompt="vicuna_v1.1", heldout=0)
    loaded = load_dataset(config)
    assert [each.content for each in loaded.examples] == [each.content for each in load(tmp_path, rows).examples]
    assert loaded.examples[0].where.startswith(f"{tmp_path / 'conversations.data'}: row ")
    data = (tmp_path / "conversations.data").read_bytes()
    (tmp_path / "conversations.data").write_bytes(data[:-20])
    load_dataset.cache_clear()
    with pytest.raises(ValueError, match=r"conversations\.data: broken Parquet: .*; get the file again"):
        load_dataset(config)


def test_the_real_files(shared_data):
    alpaca = load_dataset(DatasetConfig(name="alpaca", path=str(shared_data / "alpaca_999.json"), heldout=0))
    assert (alpaca.report.schema, len(alpaca.examples)) == ("alpaca", 999)
    path = str(shared_data / "sharegpt_300.json")
    with pytest.raises(ValueError, match=r"sharegpt_300\.json: row \d+: message 1 is from assistant, expected user"):
        load_dataset(DatasetConfig(name="local", path=path, prompt="vicuna_v1.1"))
    rules = CleaningConfig(roles="drop", empty="drop", duplicate_ids="drop")
    single = DatasetConfig(name="sharegpt", path=path, prompt="vicuna_v1.1", turns="first", clean=rules, heldout=0)
    loaded = load_dataset(single)
    # 91 begin with an answer, 2 are empty, 1 is a system message alone: counted by hand from the file.
    assert loaded.report.dropped["roles"] == 300 - len(loaded.examples) - loaded.report.dropped["empty"] >= 94
