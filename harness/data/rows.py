"""Turns a row into an example, a problem for a cleaning rule to decide, or an error that names the key.

Fields that other trainers act on are used (`system`, `system_prompt`, `history`; `weight`, `loss` and `train` of a
message) or refused (`tools`, `functions`, calls of them; pictures, sounds); all others are counted as not used:
docs/data.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.data.examples import Example, with_input
from harness.data.files import text_field
from harness.data.schemas import COLUMNS, LISTS, Columns, Schema

Turn = tuple[str, str, bool]  # role, text, whether it is learnt

# The names that published files use, case-insensitive.
_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")
_SYSTEM = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
_MEDIA = ("images", "image", "videos", "audios")
_LEARNT = ("weight", "loss", "train")  # OpenAI's and FastChat's, ms-swift's, Axolotl's
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_NAMES, _TEXTS = ("from", "role"), ("value", "content", "text")

Rule = Literal["damaged", "tools", "roles", "empty", "duplicate_ids", "duplicates"]


class RowProblem(Exception):
    """A row that a cleaning rule decides about."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass
class Remarks:
    """What to count for a row: whether it was repaired, and keys with content that are not used."""

    repaired: bool = False
    unused: set[str] = field(default_factory=set)


def to_example(row: dict[str, Any], where: str, schema: Schema, repair: bool) -> tuple[Example, Remarks]:
    """The row as an example, and what to count for it.

    Args:
        repair: drop unpaired messages at both ends.

    Raises:
        ValueError: a key is missing or has a wrong value.
        RowProblem: a problem for a cleaning rule to decide.
    """
    _refuse_tools(row, where)
    remarks, used = Remarks(), set[str]()
    if schema in LISTS:
        used, example = {LISTS[schema]}, _from_messages(row, where, LISTS[schema], repair, remarks)
    else:
        keys = COLUMNS[schema]
        used, example = {keys.instruction, keys.context or "", keys.answer, "history"}, _from_columns(row, where, keys)
    further = set(row) - {*used, *_SYSTEM, *_TOOLS, *_MEDIA, "id"}
    remarks.unused |= {repr(key) for key in further if row[key] not in _NOTHING}
    return example, remarks


def _from_columns(row: dict[str, Any], where: str, keys: Columns) -> Example:
    instruction, output = text_field(row, keys.instruction, where), text_field(row, keys.answer, where)
    further = _optional(row, keys.context, where) if keys.context else ""
    for key, text in ((keys.instruction, instruction), (keys.context, further), (keys.answer, output)):
        check_text(text, f"{where}: key {key!r}")
    system, history = _system(row, where), _history(row, where)
    if not history:
        return Example(instruction, further, output, where, system)
    (first, answer), *more = [*history, (with_input(instruction, further), output)]
    return Example(first, "", answer, where, system, tuple(more))


def _history(row: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """LLaMA-Factory's earlier exchanges, [[question, answer], ...]; as there, their answers are also learnt."""
    history = row.get("history") or []
    pairs = isinstance(history, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in history)
    if not pairs or not all(isinstance(text, str) for pair in history for text in pair):
        raise ValueError(f"{where}: key 'history' must be a list of [question, answer], found {str(history)[:60]!r}")
    for text in (text for pair in history for text in pair):
        check_text(text, f"{where}: key 'history'")
    return [(question, answer) for question, answer in history]


def _system(row: dict[str, Any], where: str) -> str:
    given = {key: text for key in _SYSTEM if (text := _optional(row, key, where))}
    if len(set(given.values())) > 1:
        raise ValueError(f"{where}: {' and '.join(given)} hold two system messages; leave one of them")
    for key, text in given.items():
        check_text(text, f"{where}: key {key!r}")
    return next(iter(given.values()), "")


def _optional(row: dict[str, Any], key: str, where: str) -> str:
    return text_field(row, key, where) if row.get(key) is not None else ""


def _refuse_tools(row: dict[str, Any], where: str) -> None:
    for key in _TOOLS:
        if row.get(key) not in (*_NOTHING, "[]"):
            raise RowProblem("tools", f"{where}: key {key!r} offers tools, which no prompt here supports")
    for key in _MEDIA:
        if row.get(key) not in _NOTHING:
            raise ValueError(f"{where}: key {key!r} holds pictures or sound; only text is trained on")


def _from_messages(row: dict[str, Any], where: str, key: str, repair: bool, remarks: Remarks) -> Example:
    messages = _listed(row, where, key)
    turns = [_message(each, f"{where}: message {n}", n, remarks) for n, each in enumerate(messages, start=1)]
    if repair and (kept := _repaired(turns)) != turns:
        turns, remarks.repaired = kept, True
    _check_order([role for role, _, _ in turns], where)
    system = _system(row, where)
    if turns[0][0] == "system":
        if system not in ("", turns[0][1]):
            raise ValueError(f"{where}: key 'system' and the first message hold two system messages; leave one of them")
        system = turns.pop(0)[1]
    texts, learnt = [text for _, text, _ in turns], [learnt for _, _, learnt in turns[1::2]]
    (instruction, output), *more = zip(texts[::2], texts[1::2], strict=True)
    unlearnt = tuple(place for place, kept in enumerate(learnt) if not kept)
    return Example(instruction, "", output, where, system, tuple(more), unlearnt)


def _listed(row: dict[str, Any], where: str, key: str) -> list[Any]:
    """The messages of a row, also if stored as columns by `datasets`, {"from": [...], "value": [...]}."""
    if key not in row:
        raise ValueError(f"{where}: key {key!r} is missing (keys: {', '.join(map(repr, row))})")
    messages = row[key]
    if isinstance(messages, dict) and messages and all(isinstance(column, list) for column in messages.values()):
        lengths = {name: len(column) for name, column in messages.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: key {key!r} holds columns of different lengths: {lengths}")
        return [dict(zip(messages, values, strict=True)) for values in zip(*messages.values(), strict=True)]
    if not isinstance(messages, list):
        raise ValueError(f"{where}: key {key!r} must be a list of messages, found {type(messages).__name__}")
    if len({isinstance(message, str) for message in messages}) > 1:
        raise ValueError(f"{where}: key {key!r} holds texts beside messages with roles")
    return messages


def _message(message: Any, where: str, number: int, remarks: Remarks) -> Turn:
    if isinstance(message, str):  # LIMA: user and assistant take turns
        check_text(message, where)
        return "user" if number % 2 else "assistant", message, True
    if not isinstance(message, dict):
        raise ValueError(f"{where}: expected an object with keys, found {str(message)[:60]!r}")
    if message.get("tool_calls") or message.get("function_call"):
        raise RowProblem("tools", f"{where}: calls a tool, which no prompt here supports")
    name_key, text_key = _first(message, _NAMES, where), _first(message, _TEXTS, where)
    name = text_field(message, name_key, where)
    if name.lower() in _TOOL_ROLES:
        raise RowProblem("tools", f"{where}: is from {name!r}, which no prompt here supports")
    if isinstance(message.get(text_key), list):
        raise ValueError(f"{where}: key {text_key!r} must be text, found a list of parts; write their text as one")
    text = text_field(message, text_key, where)
    if name.lower() not in _ROLES:
        raise RowProblem("roles", f"{where}: unknown role {name!r} (known: {', '.join(_ROLES)})")
    check_text(text, f"{where}: key {text_key!r}")
    further = set(message) - {name_key, text_key, *_LEARNT}
    remarks.unused |= {f"of a message {key!r}" for key in further if message[key] not in _NOTHING}
    return _ROLES[name.lower()], text, _is_learnt(message, where)


def _first(message: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The one of the keys that the message has; if it has none, the usual one, for the error."""
    there = [key for key in keys if message.get(key) is not None] or [key for key in keys if key in message]
    if len(there) > 1 and len({str(message[key]) for key in there}) > 1:
        raise ValueError(f"{where}: keys {' and '.join(map(repr, there))} say different things; leave one of them")
    return there[0] if there else keys[1]


def _is_learnt(message: dict[str, Any], where: str) -> bool:
    for key in _LEARNT:
        value = message.get(key)
        if value is not None and value not in (0, 1):
            raise ValueError(f"{where}: key {key!r} must be 0 or 1 (an answer is learnt or not), found {value!r}")
        if value is not None and not value:
            return False
    return True


def _repaired(turns: list[Turn]) -> list[Turn]:
    """Without an answer at the start and a question at the end, which splitting a long chat leaves."""
    kept = list(turns)
    first = next((place for place, (role, _, _) in enumerate(kept) if role != "system"), None)
    if first is not None and kept[first][0] == "assistant":
        del kept[first]
    if kept and kept[-1][0] == "user":
        del kept[-1]
    return kept


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
    """Refuse characters that do not belong in text.

    Raises:
        RowProblem: a NUL character or an unpaired surrogate.
    """
    if "\0" in text:
        raise RowProblem("damaged", f"{where} holds a NUL character at {text.index(chr(0))}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            broken = f"\\u{ord(text[error.start]):04x}"
            raise RowProblem("damaged", f"{where} holds half a surrogate pair ({broken}) at {error.start}") from None
