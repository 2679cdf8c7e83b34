"""Partial credit: the share of the gold answer's content that an answer has, from 0 to 1, and 1 just where it is right.

A finer scale than right or wrong: a model that gets 7 of 8 items learnt more than one that writes nothing. What counts
as the same content is the checkers' business (checkers.py); here it is cut into parts that can be right one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from harness.data.builtin.checkers import CONTENT, same_content
from harness.data.builtin.core import Kind

Parts = Sequence[Hashable]


def shared_content(kind: Kind, gold: str, answer: str) -> float:
    """How much of the content of the gold answer an answer of this kind has.

    The edit similarity of their parts: digits of a number, characters of a text, items of a list, lines, words of a
    sentence. Of JSON objects, the share of equal fields among all that either has. What the checker cannot read as an
    answer of this kind has none.

    Returns:
        In [0, 1]; 1 if and only if the checker accepts the answer. Symmetric in the two answers.
    """
    if same_content(kind, gold, answer):
        return 1.0
    expected, found = CONTENT[kind](gold), CONTENT[kind](answer)
    return _SHARED.get(kind, edit_similarity)(expected, found) if found else 0.0


def edit_similarity(first: Parts, second: Parts) -> float:
    """1 - (Levenshtein distance) / (length of the longer): 1 if they are equal, 0 if they share nothing."""
    if not first or not second:
        return float(len(first) == len(second))
    above = list(range(len(second) + 1))
    for row, part in enumerate(first, 1):
        current = [row]
        for column, other in enumerate(second, 1):
            changed = above[column - 1] + (part != other)
            current.append(min(changed, above[column] + 1, current[-1] + 1))
        above = current
    return 1 - above[-1] / max(len(first), len(second))


def _shared_words(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    """In those of their orders that are closest."""
    return max(edit_similarity(mine, theirs) for mine in first for theirs in second)


def _shared_fields(first: dict[str, str] | str, second: dict[str, str] | str) -> float:
    """Values other than objects have no fields."""
    if isinstance(first, str) or isinstance(second, str):
        return 0.0
    return len(first.items() & second.items()) / len(first.keys() | second.keys())


# Kinds whose content is not a sequence of parts.
_SHARED: dict[Kind, Callable[[Any, Any], float]] = {"sentence": _shared_words, "json": _shared_fields}
