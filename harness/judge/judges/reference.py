"""The judge `reference`: no model, no network. The builtin tasks' own checkers; for free text a named proxy.

Each answer is scored against the evaluation set's own answer, and the preference is 1.5 + (score_2 - score_1) / 2.
Score of a builtin task: 1 if its checker accepts the answer, else 0. The reference answer is right by
construction, so against it a right answer draws (1.5), a wrong one loses (1), and the win rate is half the accuracy.
Partial credit, how much of an answer is right, stands beside and decides no preference.
Score of free text: F1 of the words shared with the reference answer, which measures closeness to one text, not
quality; the annotator's name says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict

CHECKER = "reference:checker"
PROXY = "reference:word_f1_proxy"


class ReferenceJudge(NoBudget):
    """Checkers if every item has one, else the proxy: one annotator per evaluation set."""

    orders: tuple[bool, ...] | None = (False,)
    free = True

    def __init__(self, checkable: bool) -> None:
        self.identity = Identity("reference", fixed_id=CHECKER if checkable else PROXY)

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield every verdict at once."""
        yield [(position, self._verdict(comparison)) for position, comparison in enumerate(comparisons)]

    def _verdict(self, comparison: Comparison) -> Verdict:
        if self.identity.id == CHECKER:
            first, second = (_is_right(comparison, text) for text in (comparison.output_1, comparison.output_2))
            credit = _partial_credit(comparison)
            return Verdict(from_scores(first, second), correct=second, partial_credit=credit)
        first_f1 = word_f1(comparison.output_1, comparison.gold)
        return Verdict(from_scores(first_f1, word_f1(comparison.output_2, comparison.gold)))


def from_scores(score_1: float, score_2: float) -> float:
    """AlpacaEval preference from two scores in [0, 1]: 1.5 if they are equal."""
    return 1.5 + (score_2 - score_1) / 2


def word_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words as multisets, lower-cased, in [0, 1]."""
    words, expected = _words(answer), _words(reference)
    common = sum((words & expected).values())
    if not words or not expected:
        return float(words == expected)
    return 2 * common / (sum(words.values()) + sum(expected.values()))


def _is_right(comparison: Comparison, answer: str) -> bool:
    from harness.data import builtin

    return builtin.check(comparison.family, comparison.gold, answer)


def _partial_credit(comparison: Comparison) -> float:
    from harness.data import builtin

    return builtin.partial_credit(comparison.family, comparison.gold, comparison.output_2)


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))
