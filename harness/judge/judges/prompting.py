"""The prompt for a language model, and how its reply becomes a probability: for `openai` and `local_lm`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.judge.base import Comparison
from harness.record import whole_text

# Marks around a model's reasoning: most open models, Mistral's, Kimi's, and gpt-oss's channels.
_REASONING = (
    (r"<think(?:ing)?>", r"</think(?:ing)?>"),
    (r"<reason(?:ing)?>", r"</reason(?:ing)?>"),
    (r"<thought>", r"</thought>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|channel\|>final(?:<\|message\|>)?"),
)
_OPENS = re.compile("|".join(opens for opens, _ in _REASONING), re.IGNORECASE)
_CLOSES = re.compile("|".join(closes for _, closes in _REASONING), re.IGNORECASE)
# End tokens that some servers leave in the text.
_END = re.compile(r"(?:</s>|<\|[a-z_]{2,30}\|>|<end_of_turn>)\Z")
_BLANK = " \t\r\n\f\v\xa0\ufffd"  # U+FFFD replaces broken characters
_AROUND = " \t\r\n*_`\"'([{$#"


def fill(prompt: str, comparison: Comparison) -> str:
    """The prompt with {instruction}, {output_1} (shown first) and {output_2} (shown second) filled in.

    In one pass, so braces in an instruction or an answer are left alone.
    """
    first, second = comparison.shown
    texts = {"instruction": comparison.instruction, "output_1": first, "output_2": second}
    return re.sub(r"\{(instruction|output_1|output_2)\}", lambda match: texts[match[1]], prompt)


@dataclass(frozen=True)
class VerdictFormat:
    """Where a reply has its verdict, and how it is written.

    parse: a regular expression that the whole place must match; its group 1 is the label. labels: of the answer
    shown first and second. tag: the place is what stands between <tag> and </tag>; None: the last line that is not
    empty. Reasoning comes before the place and never counts.
    """

    parse: str
    labels: Sequence[str]
    tag: str | None = None

    def probability(self, reply: str, tokens: Any = ()) -> float | None:
        """P(the answer shown second is better): of the verdict's token where the server tells it, else 0 or 1.

        Args:
            reply: the text of the reply.
            tokens: its tokens as in OpenAI's `logprobs.content`, each with token, logprob and top_logprobs, a list
                of {token, logprob}. They may hold the reasoning that a server has cut from the text.

        Returns:
            p_2 / (p_1 + p_2) over the listed alternatives, ignoring white space and Markdown around a token; None if
            there is no verdict at its place, or tokens and text disagree.
        """
        label = self.label(reply := whole_text(reply))
        if label is None:
            return None
        entries = [entry for entry in tokens or () if isinstance(entry, dict) and isinstance(entry.get("token"), str)]
        said = whole_text("".join(entry["token"] for entry in entries))
        spans = self._spans(said)
        if spans and self.label(said) != label:
            return None
        listed = _entry_at(entries, spans[-1][0]) if spans else None
        probability = None if listed is None else _probability(listed, self.labels)
        return float(self.labels.index(label)) if probability is None else probability

    def label(self, reply: str) -> str | None:
        """The label at the verdict's place; None if there is no verdict, or several that differ."""
        found = {reply[start:end] for start, end in self._spans(reply)}
        return found.pop() if len(found) == 1 else None

    def _spans(self, reply: str) -> list[tuple[int, int]]:
        """Start and end of the label at each place; empty if any place holds something else."""
        spans = []
        for start, end in self._places(reply):
            match = re.compile(self.parse).fullmatch(reply, start, end)
            if match is None or match[1] not in self.labels:
                return []
            spans.append(match.span(1))
        return spans

    def _places(self, reply: str) -> list[tuple[int, int]]:
        start, end = _answer(reply)
        if self.tag is not None:
            return _tagged(self.tag, reply, start, end)
        line = max(start, reply.rfind("\n", start, end) + 1)
        return [(line, end)] if line < end else []


def _tagged(name: str, text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Start and end of what stands between <name> and the next </name>, in one pass: openings may come by thousands."""
    places, opened = [], None
    for tag in re.compile(f"<(/?){re.escape(name)}>", re.IGNORECASE).finditer(text, start, end):
        if not tag[1]:
            opened = tag.end() if opened is None else opened
        elif opened is not None:
            places.append((opened, tag.start()))
            opened = None
    return places


@dataclass(frozen=True)
class ScoreFormat:
    """Two scores in a reply, and how a difference becomes a probability: sigmoid(scale (score_2 - score_1)).

    parse: a regular expression, searched behind the reasoning, letter case ignored; its groups 1 and 2 are the scores
    of the answer shown first and second. Source: JudgeArena's PairScore (2501.17178), whose scale is 0.3.
    """

    parse: str
    scale: float

    def probability(self, reply: str, tokens: Any = ()) -> float | None:
        """P(the answer shown second is better); None without two scores. Token probabilities say nothing here."""
        del tokens
        start, end = _answer(reply := whole_text(reply))
        match = re.compile(self.parse, re.IGNORECASE | re.DOTALL).search(reply, start, end)
        try:
            difference = float(match[2]) - float(match[1]) if match else math.nan
        except ValueError:
            return None
        return None if math.isnan(difference) else 1 / (1 + math.exp(min(-self.scale * difference, 700.0)))


def _answer(reply: str) -> tuple[int, int]:
    """Start and end of what follows the reasoning; empty if the reasoning is cut off."""
    end = len(reply.rstrip(_BLANK))
    while match := _END.search(reply, max(0, end - 40), end):
        end = len(reply[: match.start()].rstrip(_BLANK))
    start = max((match.end() for match in _CLOSES.finditer(reply, 0, end)), default=0)
    return (end, end) if _OPENS.search(reply, start, end) else (start, end)


def _entry_at(entries: Sequence[dict[str, Any]], position: int) -> dict[str, Any] | None:
    """The token that holds the character at this position of the tokens' text."""
    passed = 0
    for entry in entries:
        passed += len(entry["token"])
        if position < passed:
            return entry
    return None


def _probability(entry: dict[str, Any], labels: Sequence[str]) -> float | None:
    """p_2 / (p_1 + p_2) over the alternatives of one token; those without a number are ignored."""
    listed: dict[str, float] = {}
    alternatives = entry.get("top_logprobs")
    for each in [*(alternatives if isinstance(alternatives, list) else []), entry]:
        token, logprob = (each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and logprob < 1e-3:  # NaN is not
            listed.setdefault(token, min(float(logprob), 0.0))
    weights = [
        sum(math.exp(logprob) for token, logprob in listed.items() if token.strip(_AROUND) == label) for label in labels
    ]
    return weights[1] / sum(weights) if sum(weights) > 0 else None
