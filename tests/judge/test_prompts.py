"""AlpacaEval's and JudgeArena's prompts on any endpoint: what is sent, and how the reply becomes a preference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.judge_server import completion, serve

from harness.judge.ask import ask
from harness.judge.audit import judge_config
from harness.judge.base import Comparison
from harness.judge.judges.openai import OpenAIJudge
from harness.judge.judges.prompting import ScoreFormat

PAIR = Comparison('Say {x} "now".', "first answer", "second answer")


def asked(prompt: str, reply: Any, tmp_path: Path) -> tuple[Any, list[dict[str, Any]]]:
    with serve(lambda _, request: reply(request)) as log:
        config = judge_config(["judge=open_8b", f"judge/prompt={prompt}", f"judge.base_url={log.url}"])
        (verdict,) = ask(OpenAIJudge(config), [PAIR], tmp_path / f"{prompt}.sqlite")
    return verdict, log.requests


def first_is_a(request: dict[str, Any]) -> bool:
    text = request["messages"][-1]["content"]
    return bool(text.index("first answer") < text.index("second answer"))


def test_alpaca_evals_prompt_takes_the_probability_of_its_two_names(tmp_path: Path) -> None:
    """The judge prefers the second answer at 80% in either order."""

    def reply(request: dict[str, Any]) -> Any:
        chances = {"M": 0.8, "m": 0.2} if first_is_a(request) else {"m": 0.8, "M": 0.2}
        return completion(max(chances, key=chances.__getitem__), chances)

    verdict, requests = asked("alpaca_eval", reply, tmp_path)
    assert verdict.preference == pytest.approx(1.8)
    assert len(requests) == 2
    system, user = requests[0]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"].startswith("You are a highly efficient assistant, who evaluates and selects the best")
    assert system["content"].endswith("the most accurate and human-preferred answers.")
    assert '"instruction": """Say {x} "now"."""' in user["content"]
    assert '"model_identifier": "m",\n        "output": """first answer"""' in user["content"]
    assert '"model_identifier": "M",\n        "output": """second answer"""' in user["content"]
    assert requests[0]["logprobs"] is True


def test_judge_arenas_scores_become_a_probability(tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Any:
        a, b = (4, 7) if first_is_a(request) else (7, 4)
        return completion(f"```\nscore_A: {a}\nscore_B: {b}\n```")

    verdict, requests = asked("judge_arena", reply, tmp_path)
    assert verdict.preference == pytest.approx(1 + 1 / (1 + math.exp(-0.3 * 3)))
    assert "<|The Start of Assistant A's Answer|>\nfirst answer\n" in requests[0]["messages"][1]["content"]
    assert requests[0]["max_tokens"] == 64


FORMAT = ScoreFormat(str(judge_config(["judge=endpoint", "judge/prompt=judge_arena"]).parse), 0.3)


@pytest.mark.parametrize(
    ("reply", "difference"),
    [
        ("score_A: 3\nscore_B: 5", 2),
        ('{"score_A": 8.5, "score_B": 7}', -1.5),
        ("<think>score_A: 1 score_B: 9</think>\nScore A = 6\nScore B = 6", 0),
        ("**score_a**: 2\n**score_b**: 10", 8),
        ("score_A: 3", None),
        ("A is better", None),
        ("<think>score_A: 1 score_B: 9", None),  # never came to an answer
        ("", None),
    ],
)
def test_scores_are_found(reply: str, difference: float | None) -> None:
    expected = None if difference is None else pytest.approx(1 / (1 + math.exp(-0.3 * difference)))
    assert FORMAT.probability(reply) == expected


def test_a_prompt_of_others_is_another_judge_and_ours_keeps_its_verdicts() -> None:
    ids = {
        name: OpenAIJudge(judge_config(["judge=open_4b", f"judge/prompt={name}"])).identity.id
        for name in ("plain", "alpaca_eval", "judge_arena")
    }
    assert len(set(ids.values())) == 3
    assert OpenAIJudge(judge_config(["judge=open_4b"])).identity.id == ids["plain"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge=endpoint", "judge.score_scale=0.3"], "two groups"),
        (["judge=endpoint", "judge/prompt=judge_arena", "judge.labels=[A,B]"], "and not both"),
        (["judge=endpoint", "judge.labels=null"], "give judge.labels, or judge.score_scale"),
        (["judge=endpoint", "judge/prompt=judge_arena", "judge.tag=verdict"], "only with judge.labels"),
        (["judge=reference", "+judge.system=x"], r"judge\.system is not a key of judge\.kind=reference"),
    ],
)
def test_keys_that_contradict_each_other(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge_config(overrides)
