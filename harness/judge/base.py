"""The interface of a judge: an identity, and verdicts on comparisons, yielded as they arrive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.record import whole_text
from harness.record.secrets import redact


@dataclass(frozen=True)
class Comparison:
    """Two answers to one instruction, and the order in which a judge is shown them.

    `gold` and `family` are the evaluation set's answer and AlpacaEval's `dataset`; `checkable`: a builtin task;
    `checks`: instructions on the form of the answer.
    """

    instruction: str
    output_1: str
    output_2: str
    gold: str = ""
    family: str = ""
    checkable: bool = False
    switched: bool = False
    checks: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def shown(self) -> tuple[str, str]:
        """The answers as the judge sees them: first, second."""
        return (self.output_2, self.output_1) if self.switched else (self.output_1, self.output_2)

    def preference_of_second(self, probability: float) -> float:
        """AlpacaEval's preference (1 output_1 wins, 2 output_2) from P(the answer shown second is better)."""
        return 2.0 - probability if self.switched else 1.0 + probability


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one comparison.

    preference: 1 output_1 wins, 2 output_2 wins, in between a probability or a draw; None if the reply could not
    be parsed. raw: the reply, or the numbers behind the preference. usd, seconds and calls count every attempt.
    served: the model snapshot that answered, as the server names it. correct, and partial_credit in [0, 1] where
    there is one: of a checker, of output_2.
    """

    preference: float | None
    raw: str = ""
    usd: float = 0.0
    seconds: float = 0.0
    calls: int = 0
    served: str = ""
    correct: bool | None = None
    partial_credit: float | None = None

    def __post_init__(self) -> None:
        # A reply's JSON can contain unpaired surrogates, which neither the store nor annotations.json can hold; and a
        # server may send back the key that it was given.
        for name in ("raw", "served"):
            object.__setattr__(self, name, redact(whole_text(getattr(self, name))))


@dataclass(frozen=True)
class Identity:
    """The identity of a judge. Anything that could change a verdict changes the id.

    model: the snapshot, or a hash of the weights' files. prompt_hash: of the prompt and its parsing.
    decoding: settings of the reply.
    """

    name: str
    model: str = ""
    prompt_hash: str = ""
    decoding: dict[str, Any] = field(default_factory=dict)
    fixed_id: str | None = None

    @property
    def id(self) -> str:
        """The annotator's name in annotations.json: readable, then eight hex digits of a hash over everything."""
        if self.fixed_id is not None:
            return self.fixed_id
        return f"{self.name}-{content_hash(self.name, self.model, self.prompt_hash, self.canonical_decoding)[:8]}"

    @property
    def canonical_decoding(self) -> str:
        return json.dumps(self.decoding, sort_keys=True)


Batch = list[tuple[int, Verdict]]
"""Verdicts with the positions of their comparisons; saved in one transaction."""


class Judge(Protocol):
    """Implemented once per file in judges/; `harness.judge.judges.registry.load_judge` makes one from settings."""

    identity: Identity
    orders: tuple[bool, ...] | None
    """Values of `switched` with which to ask each pair; None: one order per instruction, by AlpacaEval's rule."""
    free: bool
    """Whether it is instant and free: verdicts are recomputed instead of stored."""

    def check_budget(self, comparisons: Sequence[Comparison], spent_calls: int, spent_usd: float) -> None:
        """Refuse, before the first call, costs that the settings do not allow.

        Args:
            comparisons: those without a stored verdict.
            spent_calls, spent_usd: by this judge so far, over all runs that share the store.

        Raises:
            ValueError: names the limit and what would be needed.
        """

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield verdicts as they arrive, in lists, each comparison once, in any order.

        Raises:
            ValueError or OSError: the judge cannot go on; verdicts that arrived have been yielded.
        """


class NoBudget:
    """Mixin of the judges whose calls cost nothing."""

    def check_budget(self, comparisons: Sequence[Comparison], spent_calls: int, spent_usd: float) -> None:
        del comparisons, spent_calls, spent_usd


def content_hash(*parts: str) -> str:
    """SHA-256 of texts (hex); their boundaries matter, and unpaired surrogates are allowed."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
