"""Items of the built-in data set: drawing them for a split, balanced over families, and checking answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import get_args

from harness.data.builtin.checkers import same_content
from harness.data.builtin.core import FAMILIES, LEVELS, Family, Split, split_of
from harness.data.builtin.credit import shared_content
from harness.data.builtin.families import (  # noqa: F401 (they register)
    arithmetic,
    formats,
    letters,
    lookups,
    order,
    phrases,
    unseen,
)
from harness.data.builtin.phrasing import render

# Draws in a row that bring nothing new before a family counts as exhausted.
_PATIENCE = 2000


@dataclass(frozen=True)
class Item:
    """One instruction with its gold answer; `check(item.family, item.output, answer)` marks an answer."""

    id: str  # family and a hash of the prompt: the same text has the same id in every set
    family: str  # AlpacaEval's `dataset`
    difficulty: int  # 1 to 3: longer numbers, words or lists
    instruction: str
    input: str  # "" if the instruction holds everything
    output: str  # the gold answer
    key: str  # names the problem behind the text; decides the split

    @property
    def prompt(self) -> str:
        """The instruction joined with its input as AlpacaEval has it: unique within a generated set."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


def family_names(split: Split) -> tuple[str, ...]:
    """Return the names of the families that a split is made of, in a fixed order."""
    _require_split(split)
    return tuple(name for name, family in FAMILIES.items() if family.unseen == (split == "unseen"))


def generate(split: Split, size: int, seed: int, families: Sequence[str] | None = None) -> list[Item]:
    """Return `size` items of a split, the same on every platform for the same arguments.

    Families take turns: every prefix is balanced (counts differ by at most one) and a smaller set is a prefix
    of a larger one. No prompt occurs twice; in heldout and unseen no family asks a problem twice either. The
    split of a problem depends on its content alone (see core.split_of): sets of different splits share no
    problem, whatever their seeds.

    Raises:
        ValueError: unknown split or family, a family named twice, a size below 0 or beyond what a family has.
    """
    chosen = _chosen_families(split, families)
    if size < 0:
        raise ValueError(f"size={size} must not be negative")
    streams = cycle([_items_of(FAMILIES[name], split, seed) for name in chosen])
    items: list[Item] = []
    for stream in islice(streams, size):
        item = next(stream, None)
        if item is None:
            raise ValueError(_exhausted(split, size, chosen, len(items)))
        items.append(item)
    return items


def check(family: str, gold: str, answer: str) -> bool:
    """Whether `answer` has exactly the content of `gold`, by the family's own checker (see checkers.py).

    Raises:
        ValueError: unknown family.
    """
    return same_content(_known(family).kind, gold, answer)


def partial_credit(family: str, gold: str, answer: str) -> float:
    """How much of the content of `gold` is in `answer`, in [0, 1]; 1 exactly where `check` accepts it (see credit.py).

    Raises:
        ValueError: unknown family.
    """
    return shared_content(_known(family).kind, gold, answer)


def _known(family: str) -> Family:
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is unknown; known are {', '.join(FAMILIES)}")
    return FAMILIES[family]


def _items_of(family: Family, split: Split, seed: int) -> Iterator[Item]:
    """Draw new items of one family until it seems to have no more; no other family changes its stream."""
    rng = Random(f"builtin/{split}/{family.name}/{seed}")
    seen: set[str] = set()
    misses = 0
    while misses < _PATIENCE:
        item = _draw(rng, family, split)
        # Training may see one problem in several phrasings; an evaluation asks each problem once.
        mark = item and (item.prompt if split == "train" else item.key)
        if item is None or mark in seen:
            misses += 1
            continue
        misses = 0
        seen.add(str(mark))
        yield item


def _draw(rng: Random, family: Family, split: Split) -> Item | None:
    level = rng.choice(LEVELS)
    problem = family.draw(rng, level)
    if split_of(problem.key) != split:
        return None
    instruction, input_text = render(rng, family, problem)
    digest = hashlib.sha256(f"{instruction}\n\n{input_text}".encode()).hexdigest()[:12]
    return Item(f"{family.name}-{digest}", family.name, level, instruction, input_text, problem.answer, problem.key)


def _chosen_families(split: Split, families: Sequence[str] | None) -> tuple[str, ...]:
    known = family_names(split)
    if families is None:
        return known
    if unknown := [name for name in families if name not in known]:
        raise ValueError(f"families={unknown} are not in split={split!r}; it has {', '.join(known)}")
    if not families or len(set(families)) != len(families):
        raise ValueError(f"families={list(families)} must name at least one family, and each once")
    return tuple(families)


def _require_split(split: str) -> None:
    if split not in get_args(Split):
        raise ValueError(f"split={split!r} must be one of {', '.join(get_args(Split))}")


def _exhausted(split: Split, size: int, chosen: Sequence[str], made: int) -> str:
    name = chosen[made % len(chosen)]
    found = made // len(chosen)
    return f"size={size} is more than split={split!r} holds: family {name!r} has no more than {found} items"
