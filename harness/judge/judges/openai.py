"""The judge `openai`: any server that speaks OpenAI's chat completions (OpenAI, vLLM, llama.cpp, Ollama ...).

The prompt is ours (conf/judge); AlpacaEval's own prompts run through the judge `alpaca_eval`. Calls go out from
threads; the official client waits and retries on 408, 409, 429, 5xx, time-outs and broken connections, and heeds
Retry-After. The key comes from an environment variable and appears in no file, log or message.
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
from harness.judge.judges.prompting import fill, label_probability, parse_label
from harness.system.packages import require_package

_CHARACTERS_PER_TOKEN = 3.0  # on the safe side of English text (about 4)
_TOP_LOGPROBS = 5  # the most that every server allows
_REFUSED = (400, 413, 422)  # of this request (too long, filtered); asking again gives the same


class Reply(NamedTuple):
    """One reply: text, P(second is better) if it could be parsed, tokens of prompt and reply, and the model's name."""

    text: str
    probability: float | None
    tokens: tuple[int, int]
    served: str


class OpenAIJudge:
    """One call per comparison, and up to unparsed_retries more for a reply that cannot be parsed."""

    free = False

    def __init__(self, config: JudgeConfig) -> None:
        require_package("openai", "judge.kind=openai", "judge")
        self._config = config
        self._key = _key_from_environment(config.api_key_env)
        self._budget = _Budget(config)
        self.orders: tuple[bool, ...] | None = (False, True) if config.order == "both" else None
        decoding = {key: getattr(config, key) for key in ("temperature", "max_tokens", "extra_body", "logprobs")}
        prompt = content_hash(_text(config.prompt), *(config.labels or ()), _text(config.parse))
        self.identity = Identity(config.name, f"{config.model} at {config.base_url}", prompt, decoding)

    def check_budget(self, comparisons: Sequence[Comparison], spent_calls: int, spent_usd: float) -> None:
        """Refuse before the first call what judge.max_calls and judge.max_usd do not cover."""
        characters = sum(len(fill(_text(self._config.prompt), comparison)) for comparison in comparisons)
        self._budget.open(len(comparisons), characters, spent_calls, spent_usd)

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield verdicts as replies arrive.

        Raises:
            ValueError: the server refuses the key or the model, or the budget is used up.
            ConnectionError: it stays unreachable or overloaded through all retries.
        """
        workers = self._config.concurrency or 1
        with self._client() as client, ThreadPoolExecutor(workers) as pool:
            running: dict[Future[Verdict], int] = {}
            waiting = iter(enumerate(comparisons))
            failure: BaseException | None = None
            try:
                while True:
                    while failure is None and len(running) < 2 * workers and (following := next(waiting, None)):
                        running[pool.submit(self._verdict, client, following[1])] = following[0]
                    if not running:
                        break
                    done = {future: running.pop(future) for future in wait(running, return_when=FIRST_COMPLETED).done}
                    yield [(position, future.result()) for future, position in done.items() if not future.exception()]
                    # Calls that have not begun are dropped; those in flight are paid for, so they are awaited.
                    failure = failure or next(filter(None, (future.exception() for future in done)), None)
                    if failure is not None:
                        running = {future: position for future, position in running.items() if not future.cancel()}
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            if failure is not None:
                raise failure

    def _client(self) -> Any:
        from openai import OpenAI

        config = self._config
        return OpenAI(
            api_key=self._key or "none",
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=config.retries or 0,
        )

    def _verdict(self, client: Any, comparison: Comparison) -> Verdict:
        """Ask until a reply can be parsed, at most 1 + unparsed_retries times."""
        started, usd, calls = time.monotonic(), 0.0, 0
        while True:
            self._budget.take_call()
            reply = self._reply(client, comparison)
            usd, calls = usd + self._budget.pay(*reply.tokens), calls + 1
            if reply.probability is not None or calls > (self._config.unparsed_retries or 0):
                break
        known = reply.probability
        preference = None if known is None else comparison.preference_of_second(known)
        return Verdict(preference, reply.text, usd, time.monotonic() - started, calls, reply.served)

    def _reply(self, client: Any, comparison: Comparison) -> Reply:
        import openai

        try:
            answer = client.chat.completions.with_raw_response.create(**self._request(comparison))
            return self._parse(answer.http_response.text)
        except openai.APIStatusError as error:
            message = self._without_key(f"HTTP {error.status_code}: {error.response.text[:300]}")
            if error.status_code in _REFUSED:
                return Reply(message, None, (0, 0), "")
            if error.status_code < 500 and error.status_code not in (408, 409, 429):
                raise ValueError(f"judge {self.identity.name} at {self._config.base_url}: {message}") from None
            raise ConnectionError(self._gave_up(message)) from None
        except openai.APIConnectionError as error:
            raise ConnectionError(self._gave_up(f"{error} {error.__cause__ or ''}".strip())) from None

    def _request(self, comparison: Comparison) -> dict[str, Any]:
        config = self._config
        optional = {"temperature": config.temperature, "max_tokens": config.max_tokens, "extra_body": config.extra_body}
        if config.logprobs:
            optional |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        messages = [{"role": "user", "content": fill(_text(config.prompt), comparison)}]
        sent = {key: value for key, value in optional.items() if value is not None}
        return {"model": config.model, "messages": messages, **sent}

    def _parse(self, body: str) -> Reply:
        """A body that is no chat completion counts as a reply that cannot be parsed."""
        try:
            answer = json.loads(body)
            choice = answer["choices"][0]
            text = str(choice["message"]["content"] or "")
            tokens = (choice.get("logprobs") or {}).get("content") or []
            usage = answer.get("usage") or {}
            used = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
            labels = self._config.labels or []
            probability = label_probability(tokens, labels) if tokens and self._config.logprobs else None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Reply(f"no chat completion: {body[:300]}", None, (0, 0), "")
        if probability is None:
            probability = parse_label(text, _text(self._config.parse), labels)
        return Reply(text, probability, used, str(answer.get("model") or ""))

    def _gave_up(self, reason: str) -> str:
        return (
            f"judge {self.identity.name}: {self._config.base_url} failed through {self._config.retries} retries "
            f"({self._without_key(reason)}); the verdicts so far are saved, the same command continues"
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _Budget:
    """Counts calls and USD of all threads against judge.max_calls and judge.max_usd."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._prices = (config.usd_per_million_input or 0.0, config.usd_per_million_output or 0.0)
        self._calls, self._usd = 0, 0.0
        self._lock = threading.Lock()

    def open(self, calls: int, characters: int, spent_calls: int, spent_usd: float) -> None:
        """Raises ValueError where a limit does not cover the calls, or where a priced judge has no limit."""
        self._calls, self._usd = spent_calls, spent_usd
        config = self._config
        tokens = (characters / _CHARACTERS_PER_TOKEN, calls * (config.max_tokens or 0))
        usd = self._cost(*tokens)
        need = f"judge {config.name}: {calls} calls, about {usd:.2f} USD"
        spent = f"{spent_calls} calls and {spent_usd:.2f} USD spent with this judge in this verdict store"
        if any(self._prices) and config.max_usd is None:
            raise ValueError(f"{need} ({spent}); allow the sum with judge.max_usd=USD")
        if config.max_usd is not None and spent_usd + usd > config.max_usd:
            raise ValueError(f"{need}, but judge.max_usd={config.max_usd:g} with {spent}")
        if config.max_calls is not None and spent_calls + calls > config.max_calls:
            raise ValueError(f"{need}, but judge.max_calls={config.max_calls} with {spent}")

    def take_call(self) -> None:
        """Count a call before it is made; what is in flight may exceed max_usd by its own cost."""
        config = self._config
        with self._lock:
            if config.max_calls is not None and self._calls >= config.max_calls:
                raise ValueError(f"judge {config.name}: judge.max_calls={config.max_calls} are used up")
            if config.max_usd is not None and self._usd >= config.max_usd:
                raise ValueError(f"judge {config.name}: judge.max_usd={config.max_usd:g} are used up")
            self._calls += 1

    def pay(self, prompt_tokens: int, reply_tokens: int) -> float:
        """Cost of a call in USD, counted."""
        usd = self._cost(prompt_tokens, reply_tokens)
        with self._lock:
            self._usd += usd
        return usd

    def _cost(self, prompt_tokens: float, reply_tokens: float) -> float:
        return (prompt_tokens * self._prices[0] + reply_tokens * self._prices[1]) / 1e6


def _key_from_environment(name: str | None) -> str | None:
    if name is None:
        return None
    if not os.environ.get(name):
        raise ValueError(f"judge.api_key_env={name}: the environment has no such variable; export the key under it")
    return os.environ[name]


def _text(value: str | None) -> str:
    """A text that the schema requires for this kind of judge."""
    assert value is not None
    return value
