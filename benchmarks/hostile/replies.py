"""A judge's server that replies as no server should; nothing but this machine's loopback is asked."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from benchmarks.hostile.attempt import Case
from benchmarks.hostile.workplace import Workplace


def _completion(text: Any, **choice: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"model": "m", "choices": [{"index": 0, "message": message, **choice}]}).encode()


_BODIES: dict[str, tuple[int, bytes]] = {
    "a verdict": (200, _completion("A")),
    "nothing": (200, b""),
    "null": (200, b"null"),
    "a list": (200, b"[]"),
    "a text": (200, b'"A"'),
    "a page of HTML": (200, b"<html>Bad gateway</html>"),
    "cut off": (200, _completion("A")[:30]),
    "deep": (200, b"[" * 100_000),
    "not UTF-8": (200, b'{"choices": "\xff"}'),
    "no choices": (200, b'{"choices": []}'),
    "choices of null": (200, b'{"choices": [null]}'),
    "choices a number": (200, b'{"choices": 3}'),
    "a message of null": (200, b'{"choices": [{"message": null}]}'),
    "content null": (200, _completion(None)),
    "content a list": (200, _completion([{"type": "text", "text": "A"}])),
    "content a number": (200, _completion(3)),
    "content empty": (200, _completion("")),
    "half a character": (200, _completion("\ud800")),
    "terminal escapes": (200, _completion("\x1b[2J\x1b]0;x\x07A")),
    "16 MB": (200, _completion("x" * (16 << 20))),
    "both": (200, _completion("A/B")),
    "a reason first": (200, _completion("A seems good, but it is wrong.\n</think>\n\nB")),
    "logprobs null": (200, _completion("A", logprobs=None)),
    "logprobs a text": (200, _completion("A", logprobs="x")),
    "logprobs of null": (200, _completion("A", logprobs={"content": [None]})),
    "an alternative of null": (
        200,
        _completion("A", logprobs={"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [None]}]}),
    ),
    "an error in a body of 200": (200, b'{"error": {"code": 429, "message": "slow down"}}'),
    "an error that is a text": (200, b'{"error": "slow down"}'),
    "400": (400, b'{"error": {"message": "no such model"}}'),
    "401": (401, b'{"error": {"message": "no key"}}'),
    "403 of HTML": (403, b"<html>"),
    "404": (404, b""),
    "429": (429, b'{"error": {"code": 429}}'),
    "500": (500, b"x"),
    "302": (302, b""),
    "usage of texts": (200, _completion("A")[:-1] + b', "usage": {"prompt_tokens": "x", "completion_tokens": null}}'),
    "usage a list": (200, _completion("A")[:-1] + b', "usage": [1]}'),
    "a model of null": (200, _completion("A").replace(b'"m"', b"null")),
}
_SPECIAL = ("no reply", "a byte a second", "a length that is too long", "no protocol")


def cases(place: Workplace, quick: bool) -> Iterator[Case]:
    """The answers of a finished run, judged by each server."""
    with _server() as url:
        for number, name in enumerate((*_BODIES, *_SPECIAL)):
            if quick and number % 5:
                continue
            judge = ["judge=endpoint", f"judge.base_url={url}/{quote(name)}/v1", "judge.retries=1", "judge.timeout_s=2"]
            words = ["harness", f"run_id=runs/{place.run.name}", "stages=[judge]", *judge]
            yield Case("judge's reply", name, words, place.root)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        name = unquote(self.path.split("/")[1])
        _reply: Callable[[], None] | None = getattr(self, "_" + name.replace(" ", "_"), None)
        if _reply is not None:
            self.close_connection = True
            _reply()
            return
        status, body = _BODIES[name]
        self._head(status, len(body))
        self.wfile.write(body)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Retry-After-Ms", "5")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _no_reply(self) -> None:
        time.sleep(5)

    def _a_byte_a_second(self) -> None:
        self._head(200, 30)
        for _ in range(30):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(1)

    def _a_length_that_is_too_long(self) -> None:
        self._head(200, 10_000)
        self.wfile.write(b"{}")

    def _no_protocol(self) -> None:
        self.wfile.write(b"\0\1\2 hello\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hung up is no news."""


@contextmanager
def _server() -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), _Handler)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    server.socket.close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        process.terminate()
        process.join()
