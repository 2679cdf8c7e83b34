"""Answer checkers, one for each kind of answer: exact as to content, tolerant of harmless form.

Every checker accepts surrounding white space, one final full stop, and quotes or a code fence around the
whole answer. An answer with anything beside what was asked (an explanation, a second answer) is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from harness.data.builtin.core import Kind

_FENCE = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)
_QUOTES = ('""', "''", "``", "“”", "‘’")
_NUMBER = re.compile(r"[0-9]{1,3}(,[0-9]{3})+|[0-9]+")
_BETWEEN_ITEMS = re.compile(r"(?:\s*,\s*|\s+)(?:and\s+)?")
_WORD = re.compile(r"\w+|[^\w\s]")
_BULLET = re.compile(r"^[-*•]\s*")
_ORDINAL = re.compile(r"^([0-9]+)[.)]\s*")
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = {",", ".", ";", ":", "!", '"', "'"}


def unwrap(text: str) -> str:
    """Remove what carries no meaning: outer white space, a code fence, outer quotes, one final full stop."""
    text = text.strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1].strip()
    text = text.removesuffix(".").rstrip()
    if len(text) > 2 and text[0] + text[-1] in _QUOTES and text[0] not in text[1:-1]:
        text = text[1:-1].strip().removesuffix(".").rstrip()
    return text


def _exact(answer: str) -> str:
    return " ".join(unwrap(answer).split())


def _text(answer: str) -> str:
    return _exact(answer).casefold()


def _number(answer: str) -> str | None:
    """The digits without thousands commas and leading zeros; text, since int() refuses very long numbers."""
    match = _NUMBER.fullmatch(unwrap(answer))
    return match and (match[0].replace(",", "").lstrip("0") or "0")


def _list(answer: str) -> tuple[str, ...]:
    """The items (single words), parted by commas, white space or "and"; a stray comma makes an empty item."""
    return tuple(_BETWEEN_ITEMS.split(unwrap(answer).casefold()))


def _lines(answer: str) -> tuple[str, ...]:
    """The lines that are not blank; "*" and "•" stand for "-", and "1)" for "1."."""
    lines = (" ".join(line.split()).casefold().removesuffix(".") for line in unwrap(answer).splitlines())
    marked = (_ORDINAL.sub(r"\1. ", _BULLET.sub("- ", line)) for line in lines if line)
    return tuple(marked)


def _json(answer: str) -> dict[str, str] | str | None:
    """One canonical text for equal JSON values, for each field of an object; None if not JSON, or a key comes twice."""
    try:
        value = json.loads(unwrap(answer), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        if isinstance(value, dict):
            return {key: json.dumps(field, sort_keys=True) for key, field in value.items()}
        return json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):  # RecursionError: a degenerate model repeats "[" thousands of times
        return None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a JSON object names a key twice")
    return dict(pairs)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _sentence(answer: str) -> frozenset[tuple[str, ...]]:
    """The words in order without articles and punctuation, in both orders that "X is Y" and "Y is X" can have."""
    words = _WORD.findall(unwrap(answer).casefold())
    content = tuple(word for word in words if word not in _ARTICLES | _PUNCTUATION)
    if content.count("is") != 1:
        return frozenset([content])
    middle = content.index("is")
    return frozenset([content, (*content[middle + 1 :], "is", *content[:middle])])


# Each maps an answer to its content: two answers are the same when their contents are equal.
CONTENT: dict[Kind, Callable[[str], object]] = {
    "number": _number,
    "text": _text,
    "exact": _exact,
    "list": _list,
    "lines": _lines,
    "json": _json,
    "sentence": _sentence,
}


def same_content(kind: Kind, gold: str, answer: str) -> bool:
    """Whether an answer of this kind says exactly what the gold answer says."""
    content = CONTENT[kind](gold)
    assert content, f"the gold answer {gold!r} has no content as {kind}"
    return CONTENT[kind](answer) == content
