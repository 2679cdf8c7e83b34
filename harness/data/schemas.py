"""The layouts of rows that are understood, told apart by their keys, and what each becomes.

alpaca    {instruction, input?, output}
dolly     {instruction, context?, response}
sharegpt  {conversations: [{from, value}, ...], id?}
messages  {messages: [{role, content}, ...], id?}
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from harness.data.examples import Example
from harness.data.files import text_field

Schema = Literal["alpaca", "dolly", "sharegpt", "messages"]

# keys of the instruction, its context and the answer; or of the list of messages
_COLUMNS: dict[str, tuple[str, str, str]] = {
    "alpaca": ("instruction", "input", "output"),
    "dolly": ("instruction", "context", "response"),
}
_LISTS: dict[str, str] = {"sharegpt": "conversations", "messages": "messages"}

# The names that published files use.
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}

Rule = Literal["damaged", "roles", "empty", "duplicate_ids", "duplicates"]


class RowProblem(Exception):
    """A row that a cleaning rule decides about."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def schema_of(row: dict[str, Any], where: str) -> Schema | None:
    """The layout of a row, None where its keys fit none.

    Raises:
        ValueError: the keys fit more than one.
    """
    found = [name for name, (first, _, answer) in _COLUMNS.items() if first in row and answer in row]
    found += [name for name, key in _LISTS.items() if key in row]
    if len(found) > 1:
        raise ValueError(f"{where}: keys of {' and '.join(found)} in one row ({_keys(row)}); leave one of them")
    return next((schema for schema in get_args(Schema) if schema in found), None)


def expect_schema(row: dict[str, Any], where: str, expected: Schema | None) -> Schema:
    """The layout of the file so far, or of its first row.

    Raises:
        ValueError: the first row fits none, or this row another than the rows before.
    """
    found = schema_of(row, where)
    if expected is None and found is None:
        known = "{instruction, output}, {instruction, response}, {conversations: [...]} or {messages: [...]}"
        raise ValueError(f"{where}: unknown layout ({_keys(row)}); expected {known}")
    if expected is not None and found not in (None, expected):
        raise ValueError(f"{where}: layout {found}, the rows before {expected} ({_keys(row)}); split the file")
    return expected or found  # type: ignore[return-value]


def to_example(row: dict[str, Any], where: str, schema: Schema, repair: bool) -> tuple[Example, bool]:
    """The row as an example, and whether messages were left out to repair it.

    Raises:
        ValueError: a key is missing or holds no text.
        RowProblem: what a cleaning rule may let pass.
    """
    if schema in _COLUMNS:
        return _from_columns(row, where, *_COLUMNS[schema]), False
    return _from_messages(row, where, _LISTS[schema], repair)


def _from_columns(row: dict[str, Any], where: str, first: str, context: str, answer: str) -> Example:
    instruction, output = text_field(row, first, where), text_field(row, answer, where)
    further = text_field(row, context, where) if row.get(context) is not None else ""
    for key, text in ((first, instruction), (context, further), (answer, output)):
        check_text(text, f"{where}: key {key!r}")
    return Example(instruction, further, output, where)


def _from_messages(row: dict[str, Any], where: str, key: str, repair: bool) -> tuple[Example, bool]:
    messages = row[key]
    if not isinstance(messages, list):
        raise ValueError(f"{where}: key {key!r} must be a list of messages, found {type(messages).__name__}")
    turns = [_message(message, f"{where}: message {number}") for number, message in enumerate(messages, start=1)]
    turns, repaired = _repaired(turns) if repair else (turns, False)
    _check_order([role for role, _ in turns], where)
    texts = [text for _, text in turns]
    system = texts.pop(0) if turns[0][0] == "system" else ""
    (instruction, output), *more = zip(texts[::2], texts[1::2], strict=True)
    return Example(instruction, "", output, where, system, tuple(more)), repaired


def _message(message: Any, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise ValueError(f"{where}: expected an object with keys, found {str(message)[:60]!r}")
    name_key, text_key = ("from", "value") if "from" in message else ("role", "content")
    name, text = text_field(message, name_key, where), text_field(message, text_key, where)
    if name not in _ROLES:
        raise RowProblem("roles", f"{where}: unknown role {name!r} (known: {', '.join(_ROLES)})")
    check_text(text, f"{where}: key {text_key!r}")
    return _ROLES[name], text


def _repaired(turns: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], bool]:
    """Without an answer at the start and a question at the end, the two ends that splitting a long chat leaves."""
    kept = list(turns)
    first = next((place for place, (role, _) in enumerate(kept) if role != "system"), None)
    if first is not None and kept[first][0] == "assistant":
        del kept[first]
    if kept and kept[-1][0] == "user":
        del kept[-1]
    return kept, len(kept) != len(turns)


def _check_order(roles: list[str], where: str) -> None:
    start = 1 if roles[:1] == ["system"] else 0
    if len(roles) == start:
        raise RowProblem("roles", f"{where}: no exchange of user and assistant")
    for place in range(start, len(roles)):
        expected = "assistant" if (place - start) % 2 else "user"
        if roles[place] != expected:
            raise RowProblem("roles", f"{where}: message {place + 1} is from {roles[place]}, expected {expected}")
    if (len(roles) - start) % 2:
        raise RowProblem("roles", f"{where}: message {len(roles)}, the last, is from user and has no answer")


def check_text(text: str, where: str) -> None:
    """Refuse what no text holds and no tokenizer takes.

    Raises:
        RowProblem: a NUL character or half of a surrogate pair.
    """
    if "\0" in text:
        raise RowProblem("damaged", f"{where} holds a NUL character at {text.index(chr(0))}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            broken = f"\\u{ord(text[error.start]):04x}"
            raise RowProblem("damaged", f"{where} holds half a surrogate pair ({broken}) at {error.start}") from None


def _keys(row: dict[str, Any]) -> str:
    return f"keys: {', '.join(map(repr, row))}"
