"""Files in the layouts of public data sets, a dozen rows each: what is read of them, and what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import DatasetConfig
from harness.data import load_dataset
from harness.data.load import Loaded

SHAPES = Path(__file__).parent / "shapes"
QUESTION, ANSWER = "What is the {}-th letter of the word alphabetical?", "It is the letter {!r}."


def load(name: str) -> Loaded:
    return load_dataset(DatasetConfig(name="local", path=str(SHAPES / name), prompt="vicuna_v1.1", heldout=0))


def exchange(row: int) -> tuple[str, str]:
    return QUESTION.format(row), ANSWER.format("alphabetical"[row])


def plain(row: int, system: str = "") -> tuple[Any, ...]:
    question, answer = exchange(row)
    return question, "", answer, system, ()


def after(first: tuple[str, str], row: int, second: tuple[str, str] | None = None, system: str = "") -> tuple[Any, ...]:
    return *first[:1], "", first[1], system, (*([second] if second else []), exchange(row))


# What each row becomes: instruction, input, answer, system message, later exchanges.
READ: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("alpaca.json.gz", "capital_roles.json", "columns.json", "concatenated.parquet", "dict_of_lists.json"),
            *("lima.jsonl", "oasst.jsonl", "pandas_records_index.json", "prompt_completion.json"),
            *("question_answer.json", "ultrachat.jsonl", "wizardlm_v2.json"),
        ),
        plain,
    ),
    "openorca.jsonl": lambda row: plain(row, "You are an assistant."),
    "openhermes.json": lambda row: plain(row, "Be short."),
    "llamafactory_alpaca.json": lambda row: after(
        (f"HISTQ-{row}", f"HISTA-{row}"), row, ("second", "answer"), f"SYSTEM-{row}: answer in French."
    ),
    "sharegpt_weight.json": lambda row: (
        *(QUESTION.format(row), "", f"WRONG-{row}", ""),
        (("No, again.", exchange(row)[1]),),
    ),
    "openai_weight.json": lambda row: (
        *(QUESTION.format(row), "", f"BAD-{row}", ""),
        (("again", exchange(row)[1]),),
    ),
}
REFUSED = {
    "late_row_without_conversations.json": r"row 6: key 'conversations' is missing \(keys: 'id', 'items'\)",
    "late_row_null_conversations.json": "row 6: key 'conversations' must be a list of messages, found NoneType",
    "messages_tools.json": "row 1: message 2: calls a tool, .*; fix the file, or set dataset.clean.tools=drop",
    "messages_parts.json": "row 1: message 1: key 'content' must be text, found a list of parts; write their text as",
    "dpo.json": r"row 1: unknown layout .*; pairs for preference training: write the chosen answer as `completion`",
    "utf16.json": r"is UTF-16: convert it \(iconv -f UTF-16 -t UTF-8\)",
    "trailing_comma.json": "row 13: broken JSON at line 13, column 1: .*: the comma before it is one too many",
    "dup_key.json": "row 1: key 'output' occurs twice in one object; keep the one that is meant",
    "two_systems.json": "row 1: message 2 is from system, expected user; fix the file, or set dataset.clean.roles=",
}


@pytest.mark.parametrize("name", sorted(path.name for path in SHAPES.iterdir()))
def test_each_file_is_read_or_refused_as_it_should(name: str) -> None:
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]) as caught:
            load(name)
        assert str(caught.value).startswith(f"{SHAPES / name}: ")
        return
    loaded = load(name)
    rows = {int(each.where.rpartition("row ")[2]) - 1: each.content for each in loaded.examples}
    assert rows == {row: READ[name](row) for row in range(12)}
    marked = name.endswith("_weight.json")
    assert [each.unlearnt for each in loaded.examples] == [(0,) if marked else ()] * 12
    assert ("12 with answers of weight 0, which are not learnt" in loaded.describe()) is marked


def test_no_file_is_without_an_expectation() -> None:
    assert {*READ, *REFUSED} == {path.name for path in SHAPES.iterdir()}
