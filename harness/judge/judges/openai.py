"""The judge `openai`: any server with OpenAI's chat completions (OpenAI, vLLM, llama.cpp, Ollama ...).

The prompt is ours, AlpacaEval's or JudgeArena's (conf/judge/prompt). Calls go out from
threads and are booked before they are made. 408, 409, 429, 5xx, time-outs and broken connections are asked again
after a pause (Retry-After is heeded), also where a server hides them in a body of status 200. The key comes from an
environment variable and appears in no file, log or message.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from harness.config import JudgeConfig
from harness.judge.base import Batch, Comparison, Identity, Verdict, content_hash
from harness.judge.judges.chat import CallFailed, Endpoint, ReplyTooLong, Response, outcome, pause_before
from harness.judge.judges.prompting import ScoreFormat, VerdictFormat, fill
from harness.judge.ledger import BooksCalls
from harness.record.secrets import know_secret, redact
from harness.system.packages import require_package

_CHARACTERS_PER_TOKEN = 3.0  # conservative for English text (about 4)
_TOP_LOGPROBS = 5  # the most that every server allows
_READING = "2"  # version of parsing: verdicts parsed by an earlier rule belong to another judge
_REPLY_LIMITS = ("max_completion_tokens", "max_tokens", "max_new_tokens", "num_predict")


class Reply(NamedTuple):
    """One reply: text, P(second is better) if it could be parsed, USD, the model's name, and whether to ask again."""

    text: str
    probability: float | None
    usd: float = 0.0
    served: str = ""
    final: bool = False


class OpenAIJudge(BooksCalls):
    """One call per comparison, and up to unparsed_retries more for a reply that cannot be parsed."""

    free = False

    def __init__(self, config: JudgeConfig) -> None:
        require_package("httpx", "judge.kind=openai", "judge")
        self._config = self.limits = config
        self._key = key_from_environment(config.api_key_env)
        self._prices = Prices(config)
        self._format: VerdictFormat | ScoreFormat = VerdictFormat(_text(config.parse), config.labels or (), config.tag)
        if config.score_scale is not None:
            self._format = ScoreFormat(_text(config.parse), config.score_scale)
        self._stopped = threading.Event()
        self.orders: tuple[bool, ...] | None = (False, True) if config.order == "both" else None
        decoding = {key: getattr(config, key) for key in ("temperature", "max_tokens", "extra_body", "logprobs")}
        reading = (*(config.labels or ()), _text(config.parse), config.tag or "", _READING)
        # Only where they are given, so that verdicts stored before these keys existed stay this judge's.
        reading = (*reading, *filter(None, (config.system, str(config.score_scale or ""))))
        prompt = content_hash(_text(config.prompt), *reading)
        model = f"{config.model}@{config.revision}" if config.revision else config.model
        self.identity = Identity(config.name, f"{model} at {config.base_url}", prompt, decoding)

    def check_budget(self, comparisons: Sequence[Comparison], spent_calls: int, spent_usd: float) -> None:
        """Refuse before the first call what judge.max_calls and judge.max_usd do not cover."""
        usd = sum(self._at_most(self._request(comparison)) for comparison in comparisons)
        self._prices.check(len(comparisons), usd, spent_calls, spent_usd)

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield verdicts as replies arrive.

        Raises:
            ValueError: the server refuses the key or the model, or the budget is used up.
            ConnectionError: it stays unreachable or overloaded through all retries.
        """
        workers = self._config.concurrency or 1
        self._stopped.clear()
        with self._endpoint() as endpoint, ThreadPoolExecutor(workers) as pool:
            running: dict[Future[Verdict], int] = {}
            waiting = iter(enumerate(comparisons))
            failure: BaseException | None = None
            try:
                while True:
                    while failure is None and len(running) < 2 * workers and (following := next(waiting, None)):
                        running[pool.submit(self._verdict, endpoint, following[1])] = following[0]
                    if not running:
                        break
                    done = {future: running.pop(future) for future in wait(running, return_when=FIRST_COMPLETED).done}
                    yield [(position, future.result()) for future, position in done.items() if not future.exception()]
                    # Calls that have not started are dropped; those in flight are paid for, so they are awaited.
                    failure = failure or next(filter(None, (future.exception() for future in done)), None)
                    if failure is not None:
                        self._stopped.set()
                        running = {future: position for future, position in running.items() if not future.cancel()}
            finally:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
            if failure is not None:
                raise failure

    def _endpoint(self) -> Endpoint:
        return Endpoint(_text(self._config.base_url), self._key, self._config.timeout_s or 120.0)

    def _verdict(self, endpoint: Endpoint, comparison: Comparison) -> Verdict:
        """Ask until a reply can be parsed, at most 1 + unparsed_retries times."""
        started, usd, calls = time.monotonic(), 0.0, 0
        while True:
            reply = self._reply(endpoint, comparison)
            usd, calls = usd + reply.usd, calls + 1
            if reply.probability is not None or reply.final or calls > (self._config.unparsed_retries or 0):
                break
        known = reply.probability
        preference = None if known is None else comparison.preference_of_second(known)
        return Verdict(preference, reply.text, usd, time.monotonic() - started, calls, reply.served)

    def _reply(self, endpoint: Endpoint, comparison: Comparison) -> Reply:
        """The reply to one question; temporary errors are waited for, up to judge.retries times."""
        request, reason = self._request(comparison), ""
        usd = self._at_most(request)
        for attempt in range((self._config.retries or 0) + 1):
            if attempt and self._stopped.is_set():
                break
            self.book(usd)
            asked_pause = None
            try:
                response = endpoint.post("chat/completions", request)
            except ReplyTooLong as error:
                return Reply(str(error), None, usd, final=True)
            except CallFailed as error:
                reason = str(error)
                if not error.sent:
                    self.correct(-usd, -1)
            else:
                result = outcome(response)
                if result in ("answered", "refused"):
                    reply = self._read(response, usd) if result == "answered" else self._refused(response)
                    self.correct(reply.usd - usd)
                    return reply
                self.correct(-usd, -1)
                reason, asked_pause = self._said(response), response.pause_s
                if result == "fatal":
                    raise ValueError(f"judge {self.identity.name} at {self._config.base_url}: {reason}")
            if attempt < (self._config.retries or 0):
                self._stopped.wait(pause_before(attempt, asked_pause))
        raise ConnectionError(
            f"judge {self.identity.name}: {self._config.base_url} failed through {self._config.retries} retries "
            f"({redact(reason)}); the verdicts so far are saved; repeat the command to continue"
        )

    def _request(self, comparison: Comparison) -> dict[str, Any]:
        config = self._config
        optional = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        if config.logprobs:
            optional |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        messages = [{"role": "system", "content": config.system}] if config.system else []
        messages += [{"role": "user", "content": fill(_text(config.prompt), comparison)}]
        sent = {key: value for key, value in optional.items() if value is not None}
        return {"model": config.model, "messages": messages, **sent, **(config.extra_body or {})}

    def _at_most(self, request: dict[str, Any]) -> float:
        return self._prices.at_most("".join(message["content"] for message in request["messages"]))

    def _read(self, response: Response, usd_at_most: float) -> Reply:
        """A body that is not a chat completion is an unparsed reply; without usage, the estimated cost counts."""
        try:
            answer = json.loads(response.body)
            choice = answer["choices"][0]
            text = _content(choice["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return Reply(f"not a chat completion: {response.body[:300]}", None, usd_at_most)
        logprobs = choice.get("logprobs")
        tokens = logprobs.get("content") if isinstance(logprobs, dict) and self._config.logprobs else None
        probability = self._format.probability(text, tokens if isinstance(tokens, list) else ())
        usage = answer.get("usage")
        usd = self._prices.of(usage if isinstance(usage, dict) else {})
        return Reply(text, probability, usd_at_most if usd is None else usd, str(answer.get("model") or ""))

    def _refused(self, response: Response) -> Reply:
        return Reply(self._said(response), None, final=True)

    def _said(self, response: Response) -> str:
        return redact(f"HTTP {response.status}: {response.body[:300]}")


def check_served(config: JudgeConfig) -> str | None:
    """Ask the server which models it has, if it is already up.

    Returns:
        A line to show if it cannot be asked (it may be started later); else None.

    Raises:
        ValueError: it lists its models, and judge.model is none of them. llama.cpp serves one under any name.
    """
    key, url = key_from_environment(config.api_key_env), _text(config.base_url)
    try:
        with Endpoint(url, key, min(config.timeout_s or 20.0, 20.0)) as endpoint:
            response = endpoint.get("models")
        answer = json.loads(response.body) if response.status == 200 else {}
        models = [model for model in answer["data"] if isinstance(model.get("id"), str)]
    except CallFailed as error:
        return f"judge {config.name}: {url} cannot be asked for its models yet ({redact(str(error))})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"judge {config.name}: {url} does not list its models"
    names = [str(model["id"]) for model in models]
    if config.model in names or f"{config.model}:latest" in names:
        return None
    if any("llamacpp" in str(model.get("owned_by")) for model in models):
        return None
    shown = redact(", ".join(names[:8]) or "none")
    raise ValueError(f"judge.model={config.model}: {url} serves no such model; it lists {shown}")


class Prices:
    """The cost of calls, from judge.usd_per_million_input and judge.usd_per_million_output."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._input, self._output = config.usd_per_million_input or 0.0, config.usd_per_million_output or 0.0
        extra = config.extra_body or {}
        limits = (extra.get(name) for name in _REPLY_LIMITS)
        given = [limit for limit in limits if isinstance(limit, int) and limit > 0]
        self._reply_tokens = given[0] if given else config.max_tokens

    def at_most(self, prompt: str) -> float:
        """USD for a call with this prompt and the longest possible reply."""
        return self._cost(len(prompt) / _CHARACTERS_PER_TOKEN, self._reply_tokens or 0)

    def of(self, usage: dict[str, Any]) -> float | None:
        """USD for the tokens that the server counted; None if it counted none."""
        counts = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        return None if None in counts else self._cost(*(count or 0 for count in counts))

    def check(self, calls: int, usd: float, spent_calls: int, spent_usd: float) -> None:
        """Raises ValueError where a limit does not cover the calls, or where a priced judge has no limit."""
        config = self._config
        need = f"judge {config.name}: {calls} calls, about {usd:.2f} USD"
        spent = f"{spent_calls} calls and {spent_usd:.2f} USD spent with this judge in this verdict store"
        if (self._input or self._output) and config.max_usd is None:
            raise ValueError(f"{need} ({spent}); allow the sum with judge.max_usd=USD")
        if self._output and self._reply_tokens is None:
            raise ValueError(
                f"judge {config.name}: judge.max_usd={config.max_usd:g} cannot hold while a reply may have any length; "
                "set judge.max_tokens, or judge.extra_body={max_completion_tokens: N}"
            )
        if config.max_usd is not None and spent_usd + usd > config.max_usd:
            raise ValueError(f"{need}, but judge.max_usd={config.max_usd:g} with {spent}")
        if config.max_calls is not None and spent_calls + calls > config.max_calls:
            raise ValueError(f"{need}, but judge.max_calls={config.max_calls} with {spent}")

    def _cost(self, prompt_tokens: float, reply_tokens: float) -> float:
        return (prompt_tokens * self._input + reply_tokens * self._output) / 1e6


def _content(content: Any) -> str:
    """The text of a message; if it has parts, those that are text (and not the model's thinking)."""
    if not isinstance(content, list):
        return str(content or "")
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text") or "") for part in parts)


def _count(value: Any) -> int | None:
    """A number of tokens, if it is plausible."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 else None


def key_from_environment(name: str | None) -> str | None:
    """The key in this environment variable, from now on redacted everywhere.

    Raises:
        ValueError: there is no such variable.
    """
    if name is None:
        return None
    if not os.environ.get(name):
        raise ValueError(f"judge.api_key_env={name}: no such environment variable; export the key under that name")
    know_secret(name, os.environ[name])
    return os.environ[name]


def _text(value: str | None) -> str:
    """A text that the schema requires for this kind of judge."""
    assert value is not None
    return value
