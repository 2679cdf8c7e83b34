"""Limits of calls and money across processes and kills; errors hidden in replies; rows without a verdict; keys."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.judge_server import completion, serve

from harness.config import JudgeConfig
from harness.judge.ask import ask
from harness.judge.audit import judge_config
from harness.judge.base import Comparison
from harness.judge.store import VerdictStore

pytest.importorskip("httpx", reason="needs the extra `judge`")
from harness.judge.judges import chat
from harness.judge.judges.openai import OpenAIJudge


def config(url: str, **changes: Any) -> JudgeConfig:
    settings = judge_config(["judge=endpoint"]).model_dump()
    fixed = {"base_url": url, "timeout_s": 10.0, "order": "alpaca_eval", "concurrency": 4}
    return JudgeConfig(**{**settings, **fixed, **changes})


def pairs(count: int, prefix: str = "Question") -> list[Comparison]:
    return [Comparison(f"{prefix} {n}", f"reference {n}", f"answer {n}") for n in range(count)]


def ask_in_a_process(settings: JudgeConfig, prefix: str, store: Path) -> None:
    try:
        ask(OpenAIJudge(settings), pairs(20, prefix), store)
    except (ValueError, OSError) as error:
        print(error)


def processes(settings: JudgeConfig, store: Path, count: int = 2) -> list[Any]:
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=ask_in_a_process, args=(settings, f"P{n}", store)) for n in range(count)]
    for process in started:
        process.start()
    return started


@pytest.mark.parametrize(
    "limit", [{"max_calls": 25}, {"usd_per_million_input": 10_000.0, "max_usd": 25.0, "unparsed_retries": 0}]
)
def test_a_limit_holds_for_two_processes_on_one_store(limit: dict[str, Any], tmp_path: Path) -> None:
    """A call is 100 tokens at a cent each, its estimate about three times as much: no more than 25 fit."""
    with serve(lambda *_: completion("A")) as server:
        settings = config(server.url, **limit)
        for process in processes(settings, tmp_path / "v.sqlite"):
            process.join()
        with VerdictStore(tmp_path / "v.sqlite") as store:
            spent = store.spent(OpenAIJudge(settings).identity)
        assert spent.calls == len(server.requests) <= 25
        assert spent.usd <= 25.0
        if "max_calls" in limit:
            assert spent.calls == 25


def test_calls_in_flight_at_a_kill_are_on_the_account(tmp_path: Path) -> None:
    release = threading.Event()

    def hold(*_: Any) -> Any:
        release.wait(20)
        return completion("A")

    with serve(hold) as server:
        settings = config(server.url, usd_per_million_output=1e6, max_tokens=2, max_usd=100.0)
        (process,) = processes(settings, tmp_path / "v.sqlite", 1)
        while len(server.requests) < 4:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        release.set()
        with VerdictStore(tmp_path / "v.sqlite") as store:
            assert store.spent(OpenAIJudge(settings).identity) == (4, 8.0)


def test_a_store_without_an_account_brings_what_its_verdicts_cost(tmp_path: Path) -> None:
    import sqlite3

    with serve(lambda *_: completion("A")) as server:
        settings = config(server.url, usd_per_million_input=10.0, max_usd=1.0)
        ask(OpenAIJudge(settings), pairs(5), tmp_path / "v.sqlite")
    with sqlite3.connect(tmp_path / "v.sqlite") as old:
        old.execute("DROP TABLE spending")
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(OpenAIJudge(settings).identity) == (5, pytest.approx(0.005))


def test_a_reply_of_any_length_has_no_price(tmp_path: Path) -> None:
    settings = config("http://127.0.0.1:9/v1", usd_per_million_output=1.0, max_usd=1.0, max_tokens=None)
    with pytest.raises(ValueError, match=r"judge\.max_usd=1 cannot hold while a reply may have any length"):
        ask(OpenAIJudge(settings), pairs(1), tmp_path / "v.sqlite")


IN_A_BODY = [
    {"error": {"code": 429, "message": "slow down"}},
    {"error": {"code": "429"}},
    {"error": {"code": "rate_limit_exceeded", "type": "requests"}},
    {"error": "model is loading"},
    {"object": "error", "message": "overloaded", "code": 503},
    {"choices": [{"error": {"code": 502}, "finish_reason": "error", "message": {"content": ""}}]},
    {"choices": None, "error": {"message": "upstream"}},
]


@pytest.mark.parametrize("body", IN_A_BODY)
def test_an_error_in_a_body_of_status_200_is_asked_again_after_a_pause(body: Any, tmp_path: Path) -> None:
    with serve(lambda n, _: (200, body) if n % 2 else completion("B")) as server:
        judge = OpenAIJudge(config(server.url, concurrency=1, unparsed_retries=0, max_calls=3))
        verdicts = ask(judge, pairs(3), tmp_path / "v.sqlite")
        assert None not in [verdict.preference for verdict in verdicts]
        assert len(server.requests) == 6
        with VerdictStore(tmp_path / "v.sqlite") as store:
            assert store.spent(judge.identity).calls == 3


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"code": 401, "message": "no"}}, ValueError),
        ({"error": {"type": "insufficient_quota"}}, ValueError),
        ({"error": {"code": 429}}, ConnectionError),
    ],
)
def test_what_does_not_pass_stops(body: Any, error: type[Exception], tmp_path: Path) -> None:
    with serve(lambda *_: (200, body)) as server, pytest.raises(error, match="judge endpoint"):
        ask(OpenAIJudge(config(server.url, retries=2, concurrency=1)), pairs(3), tmp_path / "v.sqlite")


def test_too_many_rows_without_a_verdict_fail_and_keep_what_was_paid(tmp_path: Path) -> None:
    def reply(_: int, request: dict[str, Any]) -> Any:
        return completion("Both" if "Question 7\n" in request["messages"][0]["content"] else "A")

    with serve(reply) as server:
        judge = OpenAIJudge(config(server.url, unparsed_retries=0))
        with pytest.raises(ValueError, match=r"1 of 50 pairs have no verdict, more than judge.max_unparsed=0.01"):
            ask(judge, pairs(50), tmp_path / "v.sqlite", max_unparsed=0.01)
        assert len(server.requests) == 50
        assert ask(judge, pairs(50), tmp_path / "v.sqlite", max_unparsed=0.02)[7].preference is None
        assert len(server.requests) == 51


def deep(text: str) -> str:
    body = json.dumps(completion(text)[1])
    return body[:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}"


def odd(**changes: Any) -> dict[str, Any]:
    return {**completion("A")[1], **changes}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("body", "is_read"),
    [
        (deep("A"), False),
        (odd(model="m \ud83d"), True),
        (odd(usage={"prompt_tokens": "many"}), True),
        (odd(usage={"prompt_tokens": -5, "completion_tokens": 1e400}), True),
        (odd(usage=[1]), True),
        (
            odd(choices=[{"message": {"content": [{"type": "thinking", "text": "B"}, {"type": "text", "text": "A"}]}}]),
            True,
        ),
        (odd(choices=[{"message": {"content": None, "reasoning_content": "A"}}]), False),
        (odd(choices=[{"message": {"content": "A"}, "logprobs": {"content": {"a": 1}}}]), True),
        (odd(choices=[{"message": {"content": "A"}, "logprobs": [1]}]), True),
    ],
)
def test_odd_replies_are_kept_and_paid(body: Any, is_read: bool, tmp_path: Path) -> None:
    """The odd reply comes once; its neighbours must not be lost with it."""
    with serve(lambda n, _: (200, body) if n == 2 else completion("A")) as server:
        judge = OpenAIJudge(
            config(server.url, unparsed_retries=0, concurrency=1, usd_per_million_input=1.0, max_usd=1.0)
        )
        verdicts = ask(judge, pairs(4), tmp_path / "v.sqlite")
    assert [verdict.preference is None for verdict in verdicts] == [False, not is_read, False, False]
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(judge.identity).calls == 4
        assert store.spent(judge.identity).usd >= 3 * 1e-4


def test_a_call_is_bounded_in_time_though_bytes_keep_coming(tmp_path: Path) -> None:
    """A byte every 50 ms, in the headers and in the body: every single read is quick, the call never ends."""
    for start in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"):
        listener = socket.create_server(("127.0.0.1", 0))
        stop = threading.Event()

        def drip(listener: socket.socket = listener, start: bytes = start, stop: threading.Event = stop) -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(start)
                while not stop.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        judge = OpenAIJudge(config(url, timeout_s=0.5, retries=0, concurrency=1))
        with pytest.raises(ConnectionError, match=r"timed out after 0\.5 s"):
            ask(judge, pairs(1), tmp_path / "v.sqlite")
        stop.set()
        thread.join()
        listener.close()


def test_a_reply_is_bounded_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_REPLY_BYTES", 1 << 20)
    with serve(lambda n, _: completion("x" * (2 << 20) if n == 1 else "A")) as server:
        judge = OpenAIJudge(config(server.url, concurrency=1))
        verdicts = ask(judge, pairs(3), tmp_path / "v.sqlite")
    assert [verdict.preference is None for verdict in verdicts] == [True, False, False]
    assert verdicts[0].raw == "a reply of more than 1 MiB"


@pytest.mark.parametrize("key", ["sk-live-0123456789abcdef", 'odd"key\\with/signs+1', "short-key"])
def test_a_judge_that_repeats_the_key_does_not_get_it_stored(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_ACCESS", key)
    with serve(
        lambda n, _: completion(f"You sent {key}\nA", model=f"m {key}") if n % 2 else (400, f"no {key}")
    ) as server:
        judge = OpenAIJudge(config(server.url, api_key_env="JUDGE_ACCESS", concurrency=1))
        verdicts = ask(judge, pairs(4), tmp_path / "v.sqlite")
    assert set(server.keys) == {f"Bearer {key}"}
    assert any("[JUDGE_ACCESS]" in verdict.raw for verdict in verdicts)
    said = json.dumps([[verdict.raw, verdict.served] for verdict in verdicts], ensure_ascii=False)
    stored = (tmp_path / "v.sqlite").read_bytes().decode("utf-8", errors="replace")
    for form in (key, json.dumps(key)[1:-1]):
        assert form not in said + stored


def test_redirects_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_ACCESS", "sk-live-0123456789abcdef")
    with serve(lambda *_: completion("A")) as other, serve(lambda *_: (307, "elsewhere")) as server:
        judge = OpenAIJudge(config(server.url, api_key_env="JUDGE_ACCESS"))
        with pytest.raises(ValueError, match="HTTP 307"):
            ask(judge, pairs(1), tmp_path / "v.sqlite")
        assert other.keys == []
