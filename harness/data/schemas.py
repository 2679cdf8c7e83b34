"""The supported layouts of rows, recognised by their keys.

alpaca             {instruction, input?, output, history?}
dolly              {instruction, context?, response}
openorca           {question, response}
question_answer    {question, answer}
prompt_completion  {prompt, completion}
sharegpt           {conversations: [{from, value}, ...]}, or LIMA's [text, ...], or {from: [...], value: [...]}
messages           {messages: [{role, content}, ...]}

Each optionally with `system` (`system_prompt`) and `id`. harness/data/rows.py turns rows into examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Schema = Literal["alpaca", "dolly", "openorca", "question_answer", "prompt_completion", "sharegpt", "messages"]


@dataclass(frozen=True)
class Columns:
    """Keys of the instruction, of its context (or None) and of the answer."""

    instruction: str
    context: str | None
    answer: str


COLUMNS: dict[Schema, Columns] = {
    "alpaca": Columns("instruction", "input", "output"),
    "dolly": Columns("instruction", "context", "response"),
    "openorca": Columns("question", None, "response"),
    "question_answer": Columns("question", None, "answer"),
    "prompt_completion": Columns("prompt", None, "completion"),
}
LISTS: dict[Schema, str] = {"sharegpt": "conversations", "messages": "messages"}

_KNOWN = (
    "{instruction, output}, {instruction, response}, {question, response}, {question, answer}, {prompt, completion}, "
    "{conversations: [...]} or {messages: [...]}"
)


def schema_of(row: dict[str, Any], where: str) -> Schema | None:
    """The layout of a row, None if its keys match none.

    If several match, those whose keys are all null do not count: concatenated tables have such columns.

    Raises:
        ValueError: the keys match more than one.
    """
    found = [name for name in get_args(Schema) if all(key in row for key in _needed(name))]
    if len(found) > 1:
        filled = [name for name in found if any(row[key] is not None for key in _needed(name))]
        found = filled or found
    if len(found) > 1:
        raise ValueError(f"{where}: keys of {' and '.join(found)} in one row ({keys_of(row)}); leave one of them")
    return found[0] if found else None


def expect_schema(row: dict[str, Any], where: str, expected: Schema | None) -> Schema:
    """The layout of the file so far, or of its first row.

    Raises:
        ValueError: the first row matches none, or this row another than the rows before.
    """
    found = schema_of(row, where)
    if expected is None and found is None:
        raise ValueError(f"{where}: unknown layout ({keys_of(row)}); {_advice(row)}")
    if expected is not None and found not in (None, expected):
        raise ValueError(f"{where}: layout {found}, the rows before {expected} ({keys_of(row)}); split the file")
    return expected or found  # type: ignore[return-value]


def keys_of(row: dict[str, Any]) -> str:
    """The keys of a row, for a message."""
    return f"keys: {', '.join(map(repr, row))}"


def _needed(schema: Schema) -> tuple[str, ...]:
    if schema in LISTS:
        return (LISTS[schema],)
    return COLUMNS[schema].instruction, COLUMNS[schema].answer


def _advice(row: dict[str, Any]) -> str:
    if "chosen" in row and "rejected" in row:
        return "pairs for preference training: write the chosen answer as `completion` beside `prompt`, or as messages"
    return f"expected {_KNOWN}"
