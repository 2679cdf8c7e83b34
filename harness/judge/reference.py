"""The judge `reference`: no model, no network. The builtin tasks' own checkers; for free text a named proxy.

Output 1 is the reference answer. A reference answer of a builtin task is right by construction, so a right answer of
the model draws (1.5) and a wrong one loses (1): the win rate is half the accuracy. For free text the preference is
1 + F1/2 with F1 the overlap of words with the reference answer: an identical text draws. It measures closeness
to one reference, not quality, and its annotator name says so.
"""

from __future__ import annotations

import re
from collections import Counter

from harness.data import EvalItem

CHECKER = "reference:checker"
PROXY = "reference:word_f1_proxy"


def preference(item: EvalItem, answer: str) -> tuple[float, str]:
    """AlpacaEval preference of an answer over the reference (1 loses, 1.5 draws), and the annotator's name."""
    if item.checkable:
        from harness import builtin

        return (1.5 if builtin.check(item.family, item.reference, answer) else 1.0), CHECKER
    return 1.0 + word_f1(answer, item.reference) / 2, PROXY


def word_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words as multisets, lower-cased, in [0, 1]."""
    words, expected = _words(answer), _words(reference)
    common = sum((words & expected).values())
    if not words or not expected:
        return float(words == expected)
    return 2 * common / (sum(words.values()) + sum(expected.values()))


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))
