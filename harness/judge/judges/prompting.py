"""What a language model is asked, and how its reply becomes a probability: for `openai` and `local_lm`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.judge.base import Comparison


def fill(prompt: str, comparison: Comparison) -> str:
    """The prompt with {instruction}, {output_1} (shown first) and {output_2} (shown second) filled in.

    One pass: braces in an instruction or an answer stay what they are.
    """
    first, second = comparison.shown
    texts = {"instruction": comparison.instruction, "output_1": first, "output_2": second}
    return re.sub(r"\{(instruction|output_1|output_2)\}", lambda match: texts[match[1]], prompt)


def parse_label(reply: str, pattern: str, labels: Sequence[str]) -> float | None:
    """1.0 if the reply names the second label, 0.0 the first, None neither; the first match of the pattern counts."""
    match = re.search(pattern, reply)
    return float(labels.index(match[1])) if match and match[1] in labels else None


def label_probability(tokens: Iterable[dict[str, Any]], labels: Sequence[str]) -> float | None:
    """P(second label) at the first reply token that is a label, out of the server's log-probabilities.

    Args:
        tokens: of the reply, as in OpenAI's `logprobs.content`: each with token, logprob and top_logprobs, a list
            of {token, logprob}.
        labels: first, second.

    Returns:
        p_2 / (p_1 + p_2) over the listed alternatives, white space around a token ignored; None if no token of the
        reply is a label.
    """
    for entry in tokens:
        if str(entry.get("token", "")).strip() in labels:
            listed = {str(each["token"]): float(each["logprob"]) for each in entry.get("top_logprobs") or []}
            listed.setdefault(str(entry["token"]), float(entry["logprob"]))
            weights = [
                sum(math.exp(logprob) for token, logprob in listed.items() if token.strip() == label)
                for label in labels
            ]
            return weights[1] / sum(weights)
    return None
