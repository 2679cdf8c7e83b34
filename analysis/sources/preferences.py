"""The verdicts of one run in columns, read once and kept: hundreds of thousands of rows as dicts take seconds."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from analysis.sources.cache import remember_text, remembered_text
from analysis.stats import Array
from harness.metrics.preferences import win_fractions

# Columns of numbers, one for each item: the verdict as annotated, a checker's two, and lengths in characters.
_NUMBERS = ("preference", "correct", "partial_credit", "length", "reference_length")


@dataclass(frozen=True, eq=False)
class Items:
    """The instructions of a run in order, each with its task family or source; runs that share them share it."""

    instructions: tuple[str, ...]
    datasets: tuple[str | None, ...]

    @cached_property
    def keys(self) -> list[tuple[str, int]]:
        """(instruction, n), n counting from 0 if an instruction comes several times."""
        seen: Counter[str] = Counter()
        keys = []
        for instruction in self.instructions:
            keys.append((instruction, seen[instruction]))
            seen[instruction] += 1
        return keys


@dataclass(frozen=True, eq=False)
class Preferences:
    """Verdicts by item; numbers: those of _NUMBERS, each (I,), NaN where there is none."""

    items: Items
    annotators: list[str | None]
    numbers: Mapping[str, Array]

    @cached_property
    def model_wins(self) -> Array:
        """(I,) in [0, 1], NaN if the verdict was not understood."""
        return win_fractions(self.numbers["preference"])

    def column(self, name: str) -> Array:
        """One of the columns of numbers, or model_wins."""
        return self.model_wins if name == "model_wins" else self.numbers[name]


def preferences_of(rows: Sequence[Mapping[str, Any]]) -> Preferences:
    """The rows of annotations.json, in columns.

    Raises:
        ValueError: a verdict is not a number.
    """
    win_fractions([row.get("preference") for row in rows])
    columns = {
        "preference": numbers(row.get("preference") for row in rows),
        "correct": numbers(row.get("correct") for row in rows),
        "partial_credit": numbers(row.get("partial_credit") for row in rows),
        "length": numbers(len(row["output_2"]) for row in rows),
        "reference_length": numbers(len(row["output_1"]) for row in rows),
    }
    items = _shared(tuple(row["instruction"] for row in rows), tuple(text(row.get("dataset")) for row in rows))
    annotators = [text(row.get("annotator")) for row in rows]
    return Preferences(items, annotators, columns)


def joined(first: Preferences, second: Preferences) -> Preferences:
    """The verdicts of two runs one after the other."""
    instructions = first.items.instructions + second.items.instructions
    items = _shared(instructions, first.items.datasets + second.items.datasets)
    numbers = {name: np.concatenate([first.numbers[name], second.numbers[name]]) for name in _NUMBERS}
    return Preferences(items, [*first.annotators, *second.annotators], numbers)


def packed(found: Preferences) -> dict[str, Any]:
    """As JSON for the cache, the instructions in a text of their own that many runs share."""
    items = json.dumps([found.items.instructions, found.items.datasets], ensure_ascii=True)
    names = list(dict.fromkeys(found.annotators))
    return {
        "items": remember_text(items),
        "annotators": [names, [names.index(name) for name in found.annotators] if len(names) > 1 else []],
        # Bytes: as text in decimals they take ten times as long to read.
        **{name: b64encode(found.numbers[name].astype("<f8").tobytes()).decode() for name in _NUMBERS},
    }


def unpacked(kept: Mapping[str, Any]) -> Preferences:
    """The inverse of `packed`.

    Raises:
        KeyError: a part is gone.
    """
    items, (names, places) = _items(kept["items"]), kept["annotators"]
    annotators = [names[place] for place in places] if places else names * len(items.instructions)
    numbers = {name: np.frombuffer(b64decode(kept[name]), "<f8").astype(float) for name in _NUMBERS}
    return Preferences(items, annotators, numbers)


@lru_cache(maxsize=64)
def _items(name: str) -> Items:
    instructions, datasets = json.loads(remembered_text(name))
    return _shared(tuple(instructions), tuple(datasets))


_shared = lru_cache(maxsize=64)(Items)


def numbers(values: Iterable[Any]) -> Array:
    """Numbers of a run's file, (N,) float64; None is NaN.

    Raises:
        ValueError: one is neither.
    """
    listed = list(values)
    for kind in set(map(type, listed)):
        if not issubclass(kind, int | float | None):
            wrong = next(value for value in listed if type(value) is kind)
            raise ValueError(f"expected a number, found {str(wrong)[:60]!r}")
    return np.array(listed, float)


def text(value: Any) -> str | None:
    """A label of a run's file; numbers count as text."""
    return None if value is None else str(value)
