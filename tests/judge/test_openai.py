"""The judge `openai` against servers that are biased, broken, slow to admit and short-lived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.judge_server import completion, serve

from harness.config import JudgeConfig
from harness.judge.annotations import order_is_switched, read_model_outputs
from harness.judge.ask import HOPELESS, ask
from harness.judge.audit import judge_config
from harness.judge.base import Comparison, Verdict
from harness.judge.judges.prompting import VerdictFormat, fill
from harness.judge.store import VerdictStore
from harness.metrics import win_rate

pytest.importorskip("httpx", reason="needs the extra `judge`")
from harness.judge.judges.openai import OpenAIJudge


def config(url: str, **changes: Any) -> JudgeConfig:
    settings = judge_config(["judge=endpoint"]).model_dump()
    return JudgeConfig(**{**settings, "base_url": url, "timeout_s": 10.0, **changes})


def pairs(count: int) -> list[Comparison]:
    return [Comparison(f"Question {n}", f"reference {n}", f"answer {n}") for n in range(count)]


def both_orders(pair: Comparison) -> list[Comparison]:
    return [pair, replace(pair, switched=True)]


def preferences(verdicts: list[Verdict]) -> list[float | None]:
    return [verdict.preference for verdict in verdicts]


def test_always_first_scores_what_alpaca_evals_order_gives(shared_data: Path, tmp_path: Path) -> None:
    """805 rows; FACTS: 406 are switched, so a judge that says "first" gives 50.43478260869565, SE 1.763297370558601."""
    rows = read_model_outputs(shared_data / "alpaca_eval" / "reference_davinci003.json")
    asked = [Comparison(row["instruction"], "the reference", "the model") for row in rows]
    with serve(lambda *_: completion("A")) as server:
        verdicts = ask(OpenAIJudge(config(server.url, order="alpaca_eval")), asked, tmp_path / "v.sqlite")
    figures = win_rate(preferences(verdicts))
    assert figures["win_rate"] == pytest.approx(50.43478260869565, abs=1e-12)
    assert figures["standard_error"] == pytest.approx(1.763297370558601, abs=1e-12)
    assert len(server.requests) == 805


def test_always_first_in_both_orders_draws_everywhere(tmp_path: Path) -> None:
    with serve(lambda *_: completion("A")) as server:
        verdicts = ask(OpenAIJudge(config(server.url)), pairs(3), tmp_path / "v.sqlite")
    assert preferences(verdicts) == [1.5, 1.5, 1.5]
    shown = [request["messages"][0]["content"] for request in server.requests]
    assert sum(text.index("reference 1") < text.index("answer 1") for text in shown if "Question 1" in text) == 1


def test_token_probabilities_become_the_preference(tmp_path: Path) -> None:
    """P(A) = 0.2 with and without a space, P(B) = 0.6: P(B) of the two is 0.75; other tokens do not count."""
    answer = completion("B", {"B": 0.6, "A": 0.15, " A": 0.05, "C": 0.2})
    with serve(lambda *_: answer) as server:
        verdicts = ask(OpenAIJudge(config(server.url, order="alpaca_eval")), pairs(8), tmp_path / "v.sqlite")
    expected = [1.25 if order_is_switched(f"Question {n}") else 1.75 for n in range(8)]
    assert preferences(verdicts) == pytest.approx(expected, abs=1e-12)
    assert {1.25, 1.75} == set(expected)
    assert server.requests[0]["top_logprobs"] == 5


@pytest.mark.parametrize(
    ("reply", "value"),
    [("B", 1.0), ("A.", 0.0), (" **B**", 1.0), ("Response B", 1.0), ("Better", None), ("", None), ("Both", None)],
)
def test_the_endpoints_prompt_parses(reply: str, value: float | None) -> None:
    settings = config("http://h/v1")
    assert VerdictFormat(settings.parse or "", settings.labels or []).probability(reply) == value


def test_braces_in_answers_stay() -> None:
    asked = Comparison("say {output_2}", "{instruction}", "b", switched=True)
    assert fill("{instruction}|{output_1}|{output_2}|{x}", asked) == "say {output_2}|b|{instruction}|{x}"


def test_429_every_third_call_costs_only_time(tmp_path: Path) -> None:
    with serve(lambda n, _: (429, {"error": {"message": "slow down"}}) if n % 3 == 0 else completion("A")) as server:
        verdicts = ask(OpenAIJudge(config(server.url)), pairs(40), tmp_path / "v.sqlite")
    assert preferences(verdicts) == [1.5] * 40
    refused = len(server.requests) // 3
    assert len(server.requests) - refused == 80
    assert sum(verdict.calls for verdict in verdicts) == 80


def test_a_reply_that_cannot_be_parsed_is_asked_again_and_counted(tmp_path: Path) -> None:
    seen: set[str] = set()

    def second_time(_: int, request: dict[str, Any]) -> Any:
        prompt = request["messages"][0]["content"]
        if prompt in seen:
            return completion("B")
        seen.add(prompt)
        return completion("Hard to say")

    with serve(second_time) as server:
        judge = OpenAIJudge(config(server.url, order="alpaca_eval", usd_per_million_input=10.0, max_usd=1.0))
        verdicts = ask(judge, pairs(5), tmp_path / "v.sqlite")
    assert len(server.requests) == 10
    assert [verdict.calls for verdict in verdicts] == [2] * 5
    assert [verdict.usd for verdict in verdicts] == pytest.approx([0.002] * 5)  # 2 calls x 100 tokens x 10 USD / 1e6


@pytest.mark.parametrize("body", ["<html>busy</html>", "[]", '{"choices": []}', completion("no idea")[1]])
def test_garbage_is_no_verdict_and_is_asked_again_next_time(body: Any, tmp_path: Path) -> None:
    state: dict[str, Any] = {"body": body}
    with serve(lambda *_: (200, state["body"])) as server:
        settings = config(server.url, unparsed_retries=1, order="alpaca_eval")
        with pytest.raises(ValueError, match="none of the first 4 replies could be parsed, the last is"):
            ask(OpenAIJudge(settings), pairs(4), tmp_path / "v.sqlite")
        assert len(server.requests) == 8
        state["body"] = completion("A")[1]
        again = ask(OpenAIJudge(settings), pairs(4), tmp_path / "v.sqlite")
        assert None not in preferences(again)
        with VerdictStore(tmp_path / "v.sqlite") as store:
            assert store.spent(OpenAIJudge(settings).identity).calls == 12


def test_half_a_character_in_a_reply_is_kept_as_such(tmp_path: Path) -> None:
    with serve(lambda *_: completion("A \ud83d")) as server:
        verdicts = ask(OpenAIJudge(config(server.url, order="alpaca_eval")), pairs(2), tmp_path / "v.sqlite")
        stored = ask(OpenAIJudge(config(server.url, order="alpaca_eval")), pairs(2), tmp_path / "v.sqlite")
    assert [verdict.raw for verdict in verdicts] == [verdict.raw for verdict in stored] == ["A \ufffd"] * 2
    assert len(server.requests) == 2


def test_nothing_but_garbage_stops_early(tmp_path: Path) -> None:
    with serve(lambda *_: completion("qwerty")) as server:
        judge = OpenAIJudge(config(server.url, unparsed_retries=0))
        with pytest.raises(
            ValueError, match=r"none of the first [2-5]\d replies could be parsed, the last is 'qwerty'"
        ):
            ask(judge, pairs(200), tmp_path / "v.sqlite")
    assert len(server.requests) <= HOPELESS + 2 * 16  # what was in flight


def test_a_server_that_dies_costs_no_verdict_and_the_same_command_continues(tmp_path: Path) -> None:
    alive = {"until": 70}
    with serve(lambda n, _: completion("A") if n <= alive["until"] else (0, "")) as server:
        settings = config(server.url, retries=0)
        with pytest.raises(ConnectionError, match="the verdicts so far are saved; repeat the command to continue"):
            ask(OpenAIJudge(settings), pairs(50), tmp_path / "v.sqlite")
        with VerdictStore(tmp_path / "v.sqlite") as store:
            # Calls that were broken off may have been charged, so they stay on the account.
            assert store.spent(OpenAIJudge(settings).identity).calls == len(server.requests)
            kept = store.load(OpenAIJudge(settings).identity, [q for p in pairs(50) for q in both_orders(p)])
            assert len(kept) == 70
        broken, alive["until"] = len(server.requests), 10**9
        assert preferences(ask(OpenAIJudge(settings), pairs(50), tmp_path / "v.sqlite")) == [1.5] * 50
        assert len(server.requests) - broken == 30


def test_a_server_that_comes_back_during_the_retries_is_waited_for(tmp_path: Path) -> None:
    with serve(lambda n, _: completion("A") if not 5 <= n < 9 else (503, "down")) as server:
        verdicts = ask(OpenAIJudge(config(server.url, concurrency=1)), pairs(5), tmp_path / "v.sqlite")
    assert preferences(verdicts) == [1.5] * 5
    assert len(server.requests) == 14


def test_a_refused_key_fails_at_once_and_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serve(lambda *_: (401, {"error": {"message": "wrong key sk-secret"}})) as server:
        judge = OpenAIJudge(config(server.url, api_key_env="MY_KEY", concurrency=1))
        with pytest.raises(ValueError, match="HTTP 401") as caught:
            ask(judge, pairs(50), tmp_path / "v.sqlite")
    assert set(server.keys) == {"Bearer sk-secret"}
    assert len(server.keys) <= 2  # one may have begun before the refusal of the first was read
    assert "sk-secret" not in str(caught.value)
    assert b"sk-secret" not in (tmp_path / "v.sqlite").read_bytes()


def test_no_key_of_the_environment_goes_to_an_endpoint_that_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serve(lambda *_: completion("A")) as server:
        ask(OpenAIJudge(config(server.url)), pairs(1), tmp_path / "v.sqlite")
    assert set(server.keys) == {"Bearer none"}


def test_a_missing_key_is_named_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ValueError, match=r"judge.api_key_env=NO_SUCH_KEY: no such environment variable"):
        OpenAIJudge(config("http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"))


def test_a_prompt_that_the_server_refuses_is_one_row_without_verdict(tmp_path: Path) -> None:
    def refuse_one(_: int, request: dict[str, Any]) -> Any:
        too_long = "Question 1" in request["messages"][0]["content"]
        return (400, {"error": {"message": "context length exceeded"}}) if too_long else completion("A")

    with serve(refuse_one) as server:
        verdicts = ask(OpenAIJudge(config(server.url)), pairs(3), tmp_path / "v.sqlite")
    assert preferences(verdicts) == [1.5, None, 1.5]
    assert "context length exceeded" in verdicts[1].raw


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_calls": 19}, "20 calls, about 0.00 USD, but judge.max_calls=19 with 0 calls"),
        ({"usd_per_million_input": 3.0}, r"20 calls, about 0.01 USD .* allow the sum with judge.max_usd=USD"),
        ({"usd_per_million_input": 3.0, "max_usd": 0.001}, r"about 0.01 USD, but judge.max_usd=0.001"),
    ],
)
def test_the_budget_is_asked_before_the_first_call(limits: dict[str, Any], message: str, tmp_path: Path) -> None:
    with serve(lambda *_: completion("A")) as server:
        with pytest.raises(ValueError, match=message):
            ask(OpenAIJudge(config(server.url, **limits)), pairs(10), tmp_path / "v.sqlite")
        assert server.requests == []


def test_the_budget_counts_what_the_store_has_seen_and_retries(tmp_path: Path) -> None:
    with serve(lambda *_: completion("A")) as server:
        ask(OpenAIJudge(config(server.url)), pairs(10), tmp_path / "v.sqlite")
        limited = OpenAIJudge(config(server.url, max_calls=30))
        ask(limited, pairs(15), tmp_path / "v.sqlite")
        assert len(server.requests) == 30
        with pytest.raises(ValueError, match=r"judge.max_calls=30 with 30 calls"):
            ask(limited, pairs(16), tmp_path / "v.sqlite")
    with serve(lambda *_: completion("hm")) as server:
        judge = OpenAIJudge(config(server.url, max_calls=5, concurrency=1, order="alpaca_eval"))
        with pytest.raises(ValueError, match=r"judge.max_calls=5 are used up"):
            ask(judge, pairs(4), tmp_path / "w.sqlite")
        assert len(server.requests) == 5


@pytest.mark.parametrize(
    "changes", [{"model": "m2"}, {"temperature": 0.5}, {"labels": ["B", "A"]}, {"logprobs": False}, {"max_tokens": 9}]
)
def test_another_judge_reuses_no_verdict(changes: dict[str, Any], tmp_path: Path) -> None:
    with serve(lambda *_: completion("A")) as server:
        ask(OpenAIJudge(config(server.url)), pairs(2), tmp_path / "v.sqlite")
        ask(OpenAIJudge(config(server.url, retries=1, concurrency=1)), pairs(2), tmp_path / "v.sqlite")
        assert len(server.requests) == 4
        ask(OpenAIJudge(config(server.url, **changes)), pairs(2), tmp_path / "v.sqlite")
        assert len(server.requests) == 8


def test_decoding_settings_reach_the_server(tmp_path: Path) -> None:
    changes = {"temperature": 0.25, "max_tokens": None, "extra_body": {"seed": 7}, "logprobs": False, "model": "m"}
    with serve(lambda *_: completion("A")) as server:
        ask(OpenAIJudge(config(server.url, **changes)), pairs(1), tmp_path / "v.sqlite")
    sent = {key: value for key, value in server.requests[0].items() if key != "messages"}
    assert sent == {"model": "m", "temperature": 0.25, "seed": 7}


def test_a_slow_server_times_out(tmp_path: Path) -> None:
    import time

    def slow(*_: Any) -> Any:
        time.sleep(0.5)
        return completion("A")

    with serve(slow) as server:
        judge = OpenAIJudge(config(server.url, timeout_s=0.1, retries=0, concurrency=1))
        with pytest.raises(ConnectionError, match="timed out"):
            ask(judge, pairs(1), tmp_path / "v.sqlite")
