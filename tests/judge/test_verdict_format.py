"""What counts as a verdict in a reply: its place, its form, and the token whose probability is read."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

from harness.judge.audit import judge_config
from harness.judge.judges.prompting import VerdictFormat


@cache
def reading(tag: str | None = None) -> VerdictFormat:
    return VerdictFormat(str(judge_config(["judge=endpoint"]).parse), ["A", "B"], tag)


def tokens(*texts: str, probabilities: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Tokens as OpenAI lists them; the alternatives stand at the last one."""
    listed = [{"token": text, "logprob": -0.01, "top_logprobs": []} for text in texts]
    top = [{"token": text, "logprob": math.log(p)} for text, p in (probabilities or {}).items()]
    return [*listed[:-1], {**listed[-1], "top_logprobs": top}]


REASONED = [
    "A seems good at first, but it is wrong.\n</think>\n\nB",
    "<think>\nA is worse.\n</think>\n\nB",
    "<think>\nA\n</think>\nB",
    "<think>I could say </think>A</think> but no</think>B",
    "<thinking>A</thinking>\n\n**B**",
    "[THINK]A[/THINK]B",
    "<reasoning>\nA</reasoning>\nResponse B is better.",
    "◁think▷A◁/think▷B",
    "<|begin_of_thought|>A<|end_of_thought|>B",
    "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>",
    "A is longer.\nB is right.\n\nVerdict: B",
]
PLAIN = ["B", "B.", " **B**", "Response B", "Response B is better", "\\boxed{B}", "$\\boxed{B}$", "[[B]]", '"B"', "(B)"]
PLAIN += ["Answer: **B**", "**Verdict:** Response B", "B</s>", "B<|im_end|>\n", "`B`", "Answer:B"]
NONE = [
    "",
    "A/B",
    "Both are equal.",
    "Both",
    "A careful reader would prefer response B.",
    "A and B",
    "A or B",
    "A, B",
    "A B",
    "AB",
    "b",
    "not B",
    "B?",
    "~~B~~",
    "Neither A nor B",
    "Response A is worse",
    "A > B",
    "<think>A is better, so",
    "<think>\nA\n</think>\n<think>B",
    "B\n</think>",
    "<think>B</think>",
    "B\n\nA is worse because",
    "Better",
    "I",
    "\\boxed{A/B}",
    "А",  # a Cyrillic letter
]


@pytest.mark.parametrize("reply", REASONED + PLAIN)
def test_the_verdict_is_what_stands_in_its_place(reply: str) -> None:
    assert reading().probability(reply) == 1.0
    swapped = reply.replace("A", "\0").replace("B", "A").replace("\0", "B")
    if "Answer" not in reply:
        assert reading().probability(swapped) == 0.0


@pytest.mark.parametrize("reply", NONE)
def test_what_is_not_exactly_a_verdict_is_none(reply: str) -> None:
    assert reading().probability(reply) is None


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("A is short. <verdict>B</verdict>", 1.0),
        ("<think><verdict>A</verdict></think><VERDICT> B </VERDICT> because ...", 1.0),
        ("<verdict>A</verdict> ... <verdict>A</verdict>", 0.0),
        ("<verdict>A</verdict> no, <verdict>B</verdict>", None),
        ("<verdict>A or B</verdict>", None),
        ("<verdict>B", None),
        ("B", None),
        ("<think><verdict>B</verdict>", None),
    ],
)
def test_a_tag_is_a_place(reply: str, value: float | None) -> None:
    assert reading("verdict").probability(reply) == value


def test_probabilities_are_those_of_the_verdicts_own_token() -> None:
    """The first token that is a label stands in the reasoning, and is none."""
    said = tokens("<think>", "\n", "A", " is worse", "</think>", "\n\n", "B", probabilities={"B": 0.6, "A": 0.2})
    said[2]["top_logprobs"] = [{"token": "B", "logprob": math.log(0.01)}]
    assert reading().probability("<think>\nA is worse</think>\n\nB", said) == pytest.approx(0.75, abs=1e-12)
    # A server that cuts the reasoning from the text, and leaves it in the list of tokens.
    assert reading().probability("B", said) == pytest.approx(0.75, abs=1e-12)
    tagged = tokens("A?", "<verdict>", "B", probabilities={"B": 0.6, "A": 0.2})
    closed = [*tagged, *tokens("</verdict>")]
    assert reading("verdict").probability("A?<verdict>B</verdict>", closed) == pytest.approx(0.75, abs=1e-12)


def test_alternatives_without_a_number_do_not_count() -> None:
    entry: dict[str, Any] = {"token": "B", "logprob": -0.1}
    given: list[tuple[Any, float]] = [
        ([("B", -0.1), ("A", -2.4), ("C", None)], 1 / (1 + math.exp(-2.3))),  # 0.909
        ([("B", -0.1), ("A", None)], 1.0),
        ([("B", None), ("A", -2.4)], 1 / (1 + math.exp(-2.3))),
        ([("B", -0.1), ("A", float("nan"))], 1.0),
        ([("B", -0.1), ("A", 1e9)], 1.0),
        ([("B", -0.1), ("A", "-2.4")], 1.0),
        ([("B", -0.1), ("A", float("-inf"))], 1.0),
        ([("B", -0.1), (" A", -2.4)], 1 / (1 + math.exp(-2.3))),
    ]
    for alternatives, value in given:
        top = [{"token": token, "logprob": logprob} for token, logprob in alternatives]
        assert reading().probability("B", [{**entry, "top_logprobs": top}]) == pytest.approx(value, abs=1e-12)
    assert given[0][1] == pytest.approx(0.909, abs=5e-4)
    for broken in ([], [None], ["B"], [{"token": None}], [{"token": "B"}], [{**entry, "top_logprobs": {"A": 1}}]):
        assert reading().probability("B", broken) == 1.0


def test_tokens_that_contradict_the_text_make_no_verdict() -> None:
    assert reading().probability("B", tokens("A", probabilities={"A": 0.9})) is None
    assert reading().probability("A/B", tokens("A", probabilities={"A": 0.9, "B": 0.1})) is None


def test_a_long_reply_is_read_in_linear_time() -> None:
    """A pattern that looks back from every place would need hours for these."""
    for filler in (" " * 300_000, "*" * 300_000, "Response " * 50_000, "<verdict>" * 30_000, "\n" * 300_000):
        assert reading().probability(f"{filler}x") is None
        assert reading("verdict").probability(f"{filler}x") is None
