"""Instructions in the layouts of today's benchmarks, and the baseline's answers in the same benchmark's own files.

| format | a question's keys | an answer's keys |
|---|---|---|
| ifeval (IFBench too) | prompt, instruction_id_list, kwargs | none: answers are checked |
| arena_hard (v2) | uid, prompt, category | uid, model, messages |
| wildbench (v2) | session_id, conversation_input, primary_tag; references | session_id, generator, output |
| mt_bench | question_id, category, turns | question_id, model_id, choices |

Questions and answers may stand in one file; a row is an answer where it has the answer's keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness.config.data import EvalFormat
from harness.data.examples import EvalItem, turns
from harness.data.files import text_field

Rows = Iterable[tuple[str, dict[str, Any]]]
Answers = dict[str, dict[str, Any]]  # model -> question -> answer

# Arena-Hard v2 compares with a model for each category (lmarena/arena-hard-auto, utils/judge_utils.py).
ARENA_HARD_BASELINES = {
    "hard_prompt": "o3-mini-2025-01-31",
    "coding": "o3-mini-2025-01-31",
    "math": "o3-mini-2025-01-31",
    "creative_writing": "gemini-2.0-flash-001",
}
_WILDBENCH_REFERENCE = "gpt-4"  # key of `references`; WildBench's own file has its answer to every question


def read_format(kind: EvalFormat, rows: Rows, answers: Rows) -> Iterator[tuple[str, EvalItem]]:
    """Each question of a benchmark's rows with where it stands; a question of several turns gives an item a turn.

    Args:
        kind: any but alpaca_eval.
        rows: questions, and answers if they stand with them.
        answers: further answers.

    Raises:
        ValueError: a row of another layout, several baselines to choose from, or a question without an answer of one
            that answers others; names file, row and key.
    """
    if kind == "ifeval":
        yield from ((where, _ifeval(row, where)) for where, row in rows)
        return
    key, answer_of, questions_of = _LAYOUTS[kind]
    asked: list[tuple[str, dict[str, Any]]] = []
    given: Answers = defaultdict(dict)
    for source in (rows, answers):
        for where, row in source:
            found = answer_of(row, where)
            if found is None:
                asked.append((where, row))
            else:
                model, answer = found
                given[model][_id(row, key, where)] = answer
    place = 0
    for where, row in asked:
        for item in questions_of(row, where, given, _id(row, key, where), place):
            place += 1
            yield where, item


def _ifeval(row: dict[str, Any], where: str) -> EvalItem:
    ids, arguments = _list(row, "instruction_id_list", where), _list(row, "kwargs", where)
    if len(ids) != len(arguments) or not ids:
        raise ValueError(
            f"{where}: {len(ids)} in 'instruction_id_list' and {len(arguments)} in 'kwargs', expected pairs"
        )
    wrong = [each for each in ids if not isinstance(each, str)] + [a for a in arguments if not isinstance(a, dict)]
    if wrong:
        raise ValueError(
            f"{where}: expected names in 'instruction_id_list' and objects in 'kwargs', found {wrong[0]!r}"
        )
    # Parquet gives every row every argument of any instruction: null is not given.
    checks = tuple(
        (name, {key: value for key, value in given.items() if value is not None})
        for name, given in zip(ids, arguments, strict=True)
    )
    family = ids[0].partition(":")[0]
    return EvalItem(text_field(row, "prompt", where), "", family, "", "", checks=checks)


def _arena_answer(row: dict[str, Any], where: str) -> tuple[str, str] | None:
    if "messages" not in row:
        return None
    last = _list(row, "messages", where)[-1]
    content = last.get("content") if isinstance(last, dict) else None
    answer = content.get("answer") if isinstance(content, dict) else content
    if not isinstance(answer, str):
        raise ValueError(f"{where}: key 'messages' ends in no answer: {str(last)[:60]!r}")
    return text_field(row, "model", where), answer


def _arena(row: dict[str, Any], where: str, given: Answers, key: str, _place: int) -> Iterator[EvalItem]:
    category = text_field(row, "category", where)
    wanted = ARENA_HARD_BASELINES.get(category)
    reference, generator = _baseline(given, key, where, wanted)
    yield EvalItem(text_field(row, "prompt", where), "", category, reference or "", generator)


def _wild_answer(row: dict[str, Any], where: str) -> tuple[str, str] | None:
    if "output" not in row:
        return None
    output = row["output"][0] if isinstance(row["output"], list) and row["output"] else row["output"]
    if not isinstance(output, str):
        raise ValueError(f"{where}: key 'output' holds no answer: {str(output)[:60]!r}")
    return text_field(row, "generator", where), output


def _wild(row: dict[str, Any], where: str, given: Answers, key: str, _place: int) -> Iterator[EvalItem]:
    messages = [
        (_role(each, where), text_field(each, "content", where)) for each in _list(row, "conversation_input", where)
    ]
    system = messages.pop(0)[1] if messages and messages[0][0] == "system" else ""
    roles = [role for role, _ in messages]
    if roles != [("user", "assistant")[number % 2] for number in range(len(roles))] or len(roles) % 2 == 0:
        raise ValueError(
            f"{where}: key 'conversation_input' is {', '.join(roles)}; expected user, assistant, ..., user"
        )
    texts = [text for _, text in messages]
    reference, generator = _baseline(given, key, where, None)
    own = (row.get("references") or {}).get(_WILDBENCH_REFERENCE)
    if reference is None and isinstance(own, str):
        reference, generator = own, _WILDBENCH_REFERENCE
    history = tuple(zip(texts[:-1:2], texts[1::2], strict=True))
    family = text_field(row, "primary_tag", where)
    yield EvalItem(texts[-1], "", family, reference or "", generator, history=history, system=system)


def _role(message: Any, where: str) -> str:
    if not isinstance(message, dict):
        raise ValueError(f"{where}: key 'conversation_input' holds {str(message)[:60]!r}, expected messages")
    return text_field(message, "role", where)


def _mt_answer(row: dict[str, Any], where: str) -> tuple[str, list[str]] | None:
    if "choices" not in row:
        return None
    choice = _list(row, "choices", where)[0]
    said = choice.get("turns") if isinstance(choice, dict) else None
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
        raise ValueError(f"{where}: key 'choices' holds no 'turns' of text: {str(choice)[:60]!r}")
    return text_field(row, "model_id", where), said


def _mt(row: dict[str, Any], where: str, given: Answers, key: str, place: int) -> Iterator[EvalItem]:
    questions = _list(row, "turns", where)
    if not all(isinstance(text, str) for text in questions):
        raise ValueError(f"{where}: key 'turns' holds something other than text")
    said, generator = _baseline(given, key, where, None)
    if said is not None and len(said) < len(questions):
        raise ValueError(f"{where}: {generator} answers {len(said)} of {len(questions)} turns")
    for number, question in enumerate(questions):
        reference = "" if said is None else turns("Answer", said[: number + 1]) if number else said[0]
        yield EvalItem(
            question,
            "",
            text_field(row, "category", where),
            reference,
            generator,
            groups=(f"turn_{number + 1}",),
            follows=place + number - 1 if number else None,
            earlier=tuple(questions[:number]),
        )


_LAYOUTS: dict[str, tuple[str, Callable[..., Any], Callable[..., Iterator[EvalItem]]]] = {
    "arena_hard": ("uid", _arena_answer, _arena),
    "wildbench": ("session_id", _wild_answer, _wild),
    "mt_bench": ("question_id", _mt_answer, _mt),
}


def _baseline(given: Answers, key: str, where: str, wanted: str | None) -> tuple[Any, str]:
    """The answer to compare with and who gave it; (None, "") where no file of answers is at hand."""
    if not given:
        return None, ""
    model = wanted if wanted in given else next(iter(given))
    if model != wanted and len(given) > 1:
        named = "" if wanted is None else f" and none by {wanted}, with which this category is compared"
        raise ValueError(f"{where}: answers by {', '.join(sorted(given))}{named}; give one model's as eval_set.answers")
    if key not in given[model]:
        raise ValueError(f"{where}: {model} has no answer to question {key}")
    return given[model][key], model


def _id(row: dict[str, Any], key: str, where: str) -> str:
    if row.get(key) is None:
        raise ValueError(f"{where}: key {key!r} is missing (keys: {', '.join(map(repr, row))})")
    return str(row[key])


def _list(row: dict[str, Any], key: str, where: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: key {key!r} must be a list that is not empty, found {str(value)[:60]!r}")
    return value
