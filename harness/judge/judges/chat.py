"""Calls to a server with OpenAI's chat completions, each bounded in time and size, and their outcome.

judge.timeout_s bounds the whole call, from the connection to the last byte, so a server that sends a byte per second
cannot stall a run for hours. Redirects are not followed, so a key goes only to judge.base_url.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple

MAX_REPLY_BYTES = 64 << 20
"""A reply of 32,000 tokens with five alternatives each takes about 20 MB."""

Outcome = Literal["answered", "again", "refused", "fatal"]

_AGAIN = (408, 409, 429)
_REFUSED = (400, 413, 422)  # of this request (too long, filtered); asking again gives the same
# How servers and proxies name errors without a number; anything else in a body is worth another try.
_NAMED: dict[Outcome, tuple[str, ...]] = {
    "fatal": ("insufficient_quota", "invalid_api_key", "authentication", "permission", "not_found", "unauthorized"),
    "again": ("rate_limit", "overloaded", "timeout", "server_error", "unavailable", "busy"),
    "refused": ("invalid_request", "badrequest", "bad_request", "context_length", "content_filter"),
}


class Response(NamedTuple):
    """A server's response: HTTP status, body, and how many seconds it asks to wait."""

    status: int
    body: str
    pause_s: float | None


class CallFailed(Exception):
    """No complete response. `sent`: the server may have processed, and so charged for, the request."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class ReplyTooLong(CallFailed):
    """More than MAX_REPLY_BYTES; another call would probably be no shorter."""


class Endpoint:
    """Use as a context manager; `post` may be called from many threads, which share connections."""

    def __init__(self, base_url: str, key: str | None, timeout_s: float) -> None:
        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        self._headers = {"Authorization": f"Bearer {key or 'none'}", "Content-Type": "application/json"}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-calls", daemon=True)
        self._client: Any = None

    def __enter__(self) -> Endpoint:
        import httpx

        self._thread.start()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(headers=self._headers, timeout=None, limits=limits, follow_redirects=False)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._wait(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def post(self, path: str, request: dict[str, Any]) -> Response:
        """Send a request as JSON; unpaired surrogates are sent as JSON escapes.

        Raises:
            CallFailed: no connection, no whole response within the time, or one of more than MAX_REPLY_BYTES.
        """
        return self._call("POST", path, json.dumps(request).encode("ascii"))

    def get(self, path: str) -> Response:
        """As `post`, without a request body."""
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, content: bytes | None) -> Response:
        import httpx

        try:
            return self._wait(asyncio.wait_for(self._read(method, path, content), self._timeout_s))
        except TimeoutError:
            raise CallFailed(f"timed out after {self._timeout_s:g} s", sent=True) from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise CallFailed(f"Connection error. {error}", sent=False) from None
        except httpx.HTTPError as error:
            raise CallFailed(f"Connection error. {error or type(error).__name__}", sent=True) from None

    async def _read(self, method: str, path: str, content: bytes | None) -> Response:
        size, chunks = 0, []
        async with self._client.stream(method, f"{self._base_url}/{path}", content=content) as response:
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise ReplyTooLong(f"a reply of more than {MAX_REPLY_BYTES >> 20} MiB", sent=True)
                chunks.append(chunk)
            body = b"".join(chunks).decode("utf-8", errors="replace")
            return Response(response.status_code, body, _asked_pause(response.headers))

    def _wait(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()


def outcome(response: Response) -> Outcome:
    """What to do with a response; an error in a body of status 200 counts as one with its own status."""
    if response.status != 200:
        return _of_status(response.status, response.body)
    error = error_in(response.body)
    return "answered" if error is None else _of_error(error)


def error_in(body: str) -> Any:
    """The error in a JSON body instead of an answer, as written by OpenAI, vLLM, OpenRouter and Ollama."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if first.get("message") and not first.get("error"):
        return None
    return first.get("error") or answer.get("error") or (answer if answer.get("object") == "error" else None)


def pause_before(attempt: int, asked_s: float | None) -> float:
    """Seconds to wait after the attempt (from 0): as the server asks, else half a second, doubling up to eight."""
    return asked_s if asked_s is not None else min(0.5 * 2.0**attempt, 8.0)


def _of_status(status: int, said: str) -> Outcome:
    if status in _REFUSED:
        return "refused"
    if status == 429 and "insufficient_quota" in said:
        return "fatal"
    return "again" if status in _AGAIN or status >= 500 else "fatal"


def _of_error(error: Any) -> Outcome:
    said = json.dumps(error, default=str).lower()
    values = [error.get(key) for key in ("code", "status", "status_code")] if isinstance(error, dict) else []
    numbers = [int(text) for text in map(str, values) if re.fullmatch("[1-5][0-9]{2}", text)]
    if numbers:
        return _of_status(numbers[0], said)
    return next((result for result, names in _NAMED.items() if any(name in said for name in names)), "again")


def _asked_pause(headers: Any) -> float | None:
    """Retry-After-Ms or Retry-After in seconds, up to a minute; longer waits and dates are not followed."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds <= 60:
            return seconds
    return None
