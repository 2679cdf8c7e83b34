"""The shape of a task family, the registry of all families, and the rule that assigns a problem to a split.

A family draws a `Problem` (what is asked, its one answer, the words to phrase it with); phrasing.py turns it
into an instruction. The key of a problem names it whatever its phrasing, and the key alone decides the split:
37 + 25 asked as a sum, as 25 + 37 or as a story about books has one key and therefore lies in one split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

Split = Literal["train", "heldout", "unseen"]
Kind = Literal["number", "text", "exact", "list", "lines", "json", "sentence"]

SPLITS: tuple[Split, ...] = ("train", "heldout", "unseen")
LEVELS = (1, 2, 3)
HELDOUT_PERCENT = 20


class Problem(NamedTuple):
    """One problem: its content key "skill:...", its gold answer, and the words its phrasings may use."""

    key: str
    answer: str
    slots: dict[str, str]


DrawProblem = Callable[[Random, int], Problem]


@dataclass(frozen=True)
class Family:
    """A kind of task: how its problems are drawn, phrased, stated as plain text, and checked."""

    name: str
    kind: Kind  # how answers are compared, see checkers.py
    draw: DrawProblem
    instructions: tuple[str, ...]  # "\n\n" parts the instruction from its input
    questions: tuple[
        str, ...
    ]  # as people ask it, never as an instruction has it, for the corpus; "|" before the material
    statements: tuple[str, ...]  # the same problem with its answer as plain text, for the base model's corpus
    hints: tuple[str, ...]  # on the form of the answer, one always given; none: now and then one of the kind's
    unseen: bool


FAMILIES: dict[str, Family] = {}


def family(
    name: str,
    kind: Kind,
    instructions: Iterable[str],
    questions: Iterable[str] = (),
    statements: Iterable[str] = (),
    hints: Iterable[str] = (),
    unseen: bool = False,
) -> Callable[[DrawProblem], DrawProblem]:
    """Register the decorated `draw(rng, level) -> Problem` as a family.

    The slots `{...}` of instructions, questions and statements are the problem's; statements may also use `{answer}`.
    The problems of an unseen family must have keys that start with the name of the family.
    """

    def register(draw: DrawProblem) -> DrawProblem:
        assert name not in FAMILIES, f"two families are called {name}"
        asked, stated = (tuple(instructions), tuple(questions)), (tuple(statements), tuple(hints))
        FAMILIES[name] = Family(name, kind, draw, *asked, *stated, unseen)
        return draw

    return register


def problem(key: str, answer: object, **slots: object) -> Problem:
    """Build a Problem; numbers become text."""
    return Problem(key, str(answer), {name: str(value) for name, value in slots.items()})


def split_of(key: str) -> Split:
    """Return the split that a content key belongs to: a fixed fifth of all seen problems is held out.

    SHA-256 and not `hash`, so that the split is the same in every process and on every platform.
    """
    skill = key.partition(":")[0]
    if skill in FAMILIES and FAMILIES[skill].unseen:
        return "unseen"
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return "heldout" if bucket < HELDOUT_PERCENT else "train"


def joined(parts: Iterable[object], separator: str = ",") -> str:
    """Join anything printable, as keys and answers need it."""
    return separator.join(str(part) for part in parts)


def and_list(parts: Iterable[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    *rest, last = parts
    return f"{', '.join(rest)} and {last}" if rest else last
