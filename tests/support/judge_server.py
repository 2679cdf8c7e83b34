"""A chat-completions server on the loopback that answers as a test wants."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any] | str]


@dataclass
class Log:
    """What the server saw; `answer(number of the call from 1, request)` gives status and body."""

    answer: Callable[[int, dict[str, Any]], Answer]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def completion(text: str, probabilities: dict[str, float] | None = None, model: str = "fake-1") -> Answer:
    """A chat completion; `probabilities`: of the alternatives to its first token, which is `text`."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if probabilities is not None:
        top = [{"token": token, "logprob": math.log(p)} for token, p in probabilities.items()]
        first = {"token": text, "logprob": math.log(probabilities[text]), "top_logprobs": top}
        choice["logprobs"] = {"content": [first]}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    return 200, {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


@contextmanager
def serve(answer: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Log]:
    """Serve until the block ends. Status 0 breaks the connection without a word."""
    log = Log(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet: apart, each reply would wait 40 ms for an acknowledgement

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with log.lock:
                log.requests.append(request)
                log.keys.append(self.headers.get("Authorization", ""))
                number = len(log.requests)
            status, body = log.answer(number, request)
            if status == 0:
                self.close_connection = True
                return
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After-Ms", "5")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that hung up (a time-out) is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    log.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
