"""Small files of our own in the layouts of the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IFEVAL: list[dict[str, Any]] = [
    {
        "key": 1,
        "prompt": "Name a colour without a comma, in lower case.",
        "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
        "kwargs": [{"keywords": None}, {"keywords": ["blue"], "num_words": None}],
    },
    {
        "key": 2,
        "prompt": "Write a title in double angular brackets.",
        "instruction_id_list": ["detectable_format:title"],
        "kwargs": [{}],
    },
    {  # of IFBench
        "key": "3",
        "prompt": "Use whale once and shark twice.",
        "instruction_id_list": ["count:keywords_multiple"],
        "kwargs": [
            {
                "keyword1": "whale",
                "keyword2": "shark",
                "keyword3": "eel",
                "keyword4": "cod",
                "keyword5": "ray",
                "N": None,
            }
        ],
    },
]

ARENA_QUESTIONS = [
    {"uid": "a", "category": "hard_prompt", "subcategory": "coding", "prompt": "Sort a list."},
    {"uid": "b", "category": "creative_writing", "subcategory": "writing", "prompt": "Write a haiku."},
]


def arena_answer(uid: str, model: str, text: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": "..."}
    return {
        "uid": uid,
        "ans_id": f"{model}{uid}",
        "model": model,
        "messages": [asked, {"role": "assistant", "content": text}],
    }


ARENA_ANSWERS = {
    model: [arena_answer(uid, model, {"answer": f"{model} says {uid}"}) for uid in ("a", "b")]
    for model in ("o3-mini-2025-01-31", "gemini-2.0-flash-001")
}

WILDBENCH: list[dict[str, Any]] = [
    {
        "session_id": "w1",
        "primary_tag": "Math",
        "conversation_input": [{"role": "user", "content": "Add 2 and 3."}],
        "references": {"gpt-4": "5"},
        "checklist": ["Is it 5?"],
    },
    {
        "session_id": "w2",
        "primary_tag": "Editing",
        "conversation_input": [
            {"role": "user", "content": "Name a sea."},
            {"role": "assistant", "content": "The Baltic."},
            {"role": "user", "content": "And another?"},
        ],
        "references": {"gpt-4": "The Aral."},
        "checklist": ["Is it a sea?"],
    },
]

MT_QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Name a tree.", "Now a taller one."]},
    {"question_id": 82, "category": "math", "turns": ["Add 1 and 1.", "Double it."]},
]
MT_ANSWERS = [
    {"question_id": 81, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["Oak.", "Redwood."]}]},
    {"question_id": 82, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["2", "4"]}]},
]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def arena_files(folder: Path) -> list[str]:
    """Overrides of eval_set=arena_hard."""
    for model, rows in ARENA_ANSWERS.items():
        write_rows(folder / "model_answer" / f"{model}.jsonl", rows)
    questions = write_rows(folder / "question.jsonl", ARENA_QUESTIONS)
    return ["eval_set=arena_hard", f"eval_set.path={questions}", f"eval_set.answers={folder / 'model_answer'}"]


def mt_files(folder: Path) -> list[str]:
    """Overrides of eval_set=mt_bench."""
    questions, answers = write_rows(folder / "q.jsonl", MT_QUESTIONS), write_rows(folder / "a.jsonl", MT_ANSWERS)
    return ["eval_set=mt_bench", f"eval_set.path={questions}", f"eval_set.answers={answers}"]
