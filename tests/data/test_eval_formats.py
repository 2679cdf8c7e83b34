"""Benchmarks' own layouts become instructions; what does not fit is one line; conversations are asked as trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.benchmark_files import (
    ARENA_ANSWERS,
    ARENA_QUESTIONS,
    IFEVAL,
    MT_ANSWERS,
    MT_QUESTIONS,
    WILDBENCH,
    arena_answer,
    arena_files,
    mt_files,
    write_rows,
)
from support.tokenizers_by_hand import CHATML_TEMPLATE, byte_tokenizer

from harness.config import EvalSetConfig
from harness.data import EvalItem, load_eval_items
from harness.data.saved_template import with_template
from harness.data.tokenize import tokenize_prompts


def items(path: str, kind: str, **settings: Any) -> list[EvalItem]:
    return load_eval_items(EvalSetConfig.model_validate({"name": kind, "format": kind, "path": path, **settings}))


@pytest.mark.parametrize("ext", ["jsonl", "parquet"])
def test_ifeval_from_json_lines_and_parquet(tmp_path: Path, ext: str) -> None:
    path = tmp_path / f"rows.{ext}"
    if ext == "jsonl":
        write_rows(path, IFEVAL)
    else:
        pd.DataFrame([{**row, "key": str(row["key"])} for row in IFEVAL]).to_parquet(path)
    found = items(str(path), "ifeval")
    assert [item.text for item in found] == [row["prompt"] for row in IFEVAL]
    assert found[0].checks == (("punctuation:no_comma", {}), ("keywords:existence", {"keywords": ["blue"]}))
    assert [(item.reference, item.generator) for item in found] == [("", "")] * 3
    assert [item.family for item in found] == ["punctuation", "detectable_format", "count"]


def test_arena_hard_compares_each_category_with_its_model(compose: Any, tmp_path: Path) -> None:
    hard, creative = load_eval_items(compose(*arena_files(tmp_path)).eval_set)
    assert (hard.family, hard.generator, hard.reference) == (
        "hard_prompt",
        "o3-mini-2025-01-31",
        "o3-mini-2025-01-31 says a",
    )
    assert (creative.generator, creative.reference) == ("gemini-2.0-flash-001", "gemini-2.0-flash-001 says b")


def test_arena_hard_questions_and_answers_in_one_file_as_from_the_hub(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "all.jsonl", [*ARENA_QUESTIONS, *(row for rows in ARENA_ANSWERS.values() for row in rows)]
    )
    assert [item.generator for item in items(path, "arena_hard")] == ["o3-mini-2025-01-31", "gemini-2.0-flash-001"]
    of_one = write_rows(
        tmp_path / "mine.jsonl", [*ARENA_QUESTIONS, *(arena_answer(uid, "mine", "text") for uid in "ab")]
    )
    assert [item.generator for item in items(of_one, "arena_hard")] == ["mine", "mine"]
    alone = write_rows(tmp_path / "questions.jsonl", ARENA_QUESTIONS)
    assert [item.generator for item in items(alone, "arena_hard")] == ["", ""]


def test_wildbench_has_its_own_reference_and_the_conversation(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "w.jsonl", WILDBENCH)
    single, talk = items(path, "wildbench")
    assert (single.text, single.reference, single.generator) == ("Add 2 and 3.", "5", "gpt-4")
    assert talk.history == (("Name a sea.", "The Baltic."),)
    assert talk.text == "User: Name a sea.\n\nAssistant: The Baltic.\n\nUser: And another?"
    answers = write_rows(
        tmp_path / "r.jsonl", [{"session_id": f"w{n}", "generator": "llama", "output": [f"own {n}"]} for n in (1, 2)]
    )
    assert [(each.reference, each.generator) for each in items(path, "wildbench", answers=answers)] == [
        ("own 1", "llama"),
        ("own 2", "llama"),
    ]


def test_mt_bench_is_an_item_a_turn(compose: Any, tmp_path: Path) -> None:
    found = load_eval_items(compose(*mt_files(tmp_path)).eval_set)
    assert [item.follows for item in found] == [None, 0, None, 2]
    assert [item.groups for item in found] == [("turn_1",), ("turn_2",)] * 2
    assert found[1].text == "Question 1:\nName a tree.\n\nQuestion 2:\nNow a taller one."
    assert found[1].reference == "Answer 1:\nOak.\n\nAnswer 2:\nRedwood."
    assert found[0].reference == "Oak."
    assert len(load_eval_items(compose(*mt_files(tmp_path), "eval_set.limit=1").eval_set)) == 2


def broken(rows: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [{**rows[0], **changes}, *rows[1:]]


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("ifeval", broken(IFEVAL, kwargs=[{}]), r"row 1: 2 in 'instruction_id_list' and 1 in 'kwargs'"),
        ("ifeval", broken(IFEVAL, kwargs=[{}, "x"]), r"row 1: .*objects in 'kwargs', found 'x'"),
        ("ifeval", broken(IFEVAL, prompt=None), r"row 1: key 'prompt' must be text"),
        ("ifeval", [IFEVAL[0], IFEVAL[0]], r"row 2: the question repeats that of .*row 1"),
        ("arena_hard", broken(ARENA_QUESTIONS, uid=None), r"row 1: key 'uid' is missing"),
        ("arena_hard", [*ARENA_QUESTIONS, arena_answer("a", "m", {})], r"row 3: key 'messages' ends in no answer"),
        ("arena_hard", [*ARENA_QUESTIONS, arena_answer("a", "m", "x")], r"row 2: m has no answer to question b"),
        (
            "arena_hard",
            [*ARENA_QUESTIONS, *(arena_answer(uid, model, "x") for uid in "ab" for model in "mn")],
            r"row 1: answers by m, n and none by o3-mini-2025-01-31, with which this category is compared",
        ),
        ("wildbench", broken(WILDBENCH, conversation_input=[]), r"row 1: key 'conversation_input' must be a list"),
        (
            "wildbench",
            broken(WILDBENCH, conversation_input=WILDBENCH[1]["conversation_input"][:2]),
            r"row 1: key 'conversation_input' is user, assistant; expected",
        ),
        ("mt_bench", broken(MT_QUESTIONS, turns=[1, 2]), r"row 1: key 'turns' holds something other than text"),
        (
            "mt_bench",
            [*MT_QUESTIONS, {**MT_ANSWERS[0], "choices": [{"turns": ["one"]}]}, MT_ANSWERS[1]],
            r"row 1: gpt-4 answers 1 of 2 turns",
        ),
    ],
)
def test_what_does_not_fit_names_file_row_and_key(kind: str, rows: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows\.jsonl: " + message):
        items(write_rows(tmp_path / "rows.jsonl", rows), kind)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "ifeval", "answers": "x"}, "only with format arena_hard"),
        ({"hub_id": "a/b"}, "give eval_set.revision"),
        ({"format": "other"}, "format"),
    ],
)
def test_the_schema_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvalSetConfig.model_validate({"name": "x", **settings})


def test_answers_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl", MT_QUESTIONS)
    with pytest.raises(ValueError, match=r"eval_set\.answers=.*gone: no such file or folder"):
        items(path, "mt_bench", answers=str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a folder without \.jsonl files"):
        items(path, "mt_bench", answers=str(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["ifeval", "ifbench", "arena_hard", "wildbench"])
def test_offline_the_hub_is_refused_with_what_to_do(name: str, compose: Any) -> None:
    config = compose(f"eval_set={name}").eval_set
    with pytest.raises(ValueError, match=rf"eval_set={name}: .* offline is set; .*hf download.*eval_set\.path=FILE"):
        load_eval_items(config)


def test_mt_bench_without_a_file_says_so(compose: Any) -> None:
    with pytest.raises(ValueError, match=r"eval_set\.path: is missing"):
        load_eval_items(compose("eval_set=mt_bench").eval_set)


CHATML = {"extra": ["<|im_start|>"], "eos": "<|im_end|>"}


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("alpaca", {}),
        ("alpaca", {"bos": "<s>"}),
        ("vicuna_v1.1", {"bos": "<s>"}),
        ("none", {}),
        ("chatml", CHATML),
        ("chat_template", {**CHATML, "template": CHATML_TEMPLATE}),
    ],
)
def test_a_conversation_is_asked_in_the_tokens_of_the_saved_template(prompt: Any, settings: dict[str, Any]) -> None:
    extra, rest = settings.get("extra", []), {key: value for key, value in settings.items() if key != "extra"}
    own, saved = byte_tokenizer(*extra, **rest), with_template(byte_tokenizer(*extra, **rest), prompt)
    item = EvalItem(
        "And another?", "", "f", "r", "g", history=(("Name a sea.", "The Baltic."), ("Why?", "It is near."))
    )
    messages = [
        {"role": role, "content": text}
        for user, answer in item.history
        for role, text in (("user", user), ("assistant", answer))
    ]
    messages.append({"role": "user", "content": item.instruction})
    asked = saved.apply_chat_template(messages, tokenize=True, return_dict=False, add_generation_prompt=True)
    plain = EvalItem("ask", "", "f", "r", "g")
    assert tokenize_prompts([item, plain], own, prompt) == [asked, tokenize_prompts([plain], own, prompt)[0]]


def test_a_system_message_without_a_place_is_refused() -> None:
    item = EvalItem("ask", "", "f", "r", "g", system="Be short.")
    with pytest.raises(ValueError, match=r"has a system message, for which dataset\.prompt=alpaca has no place"):
        tokenize_prompts([item], byte_tokenizer(), "alpaca")
