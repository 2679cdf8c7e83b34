"""A loopback server that speaks the few W&B operations that syncing a run and reading it back need.

It stands in for api.wandb.ai in tests of the real client: GraphQL (by operation name), the file stream of a run,
uploads and downloads of its files, histories exported to Parquet. State is plain: runs by (project, name), each with
config, summary, history and files. It can be slow, busy, or fall silent.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from support.wandb_graphql import graphql, operation_of
from support.wandb_run import EXPORT, StoredRun, parquet, receive_stream


class WandbServer(ThreadingHTTPServer):
    """Listens on a free port of the loopback address."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.runs: dict[tuple[str, str], StoredRun] = {}
        self.views: list[dict[str, Any]] = []
        self.projects: list[tuple[str, str]] = [("team", "study")]  # what a report may be saved in
        self.operations: list[str] = []
        self.delay = 0.0  # seconds before each answer
        self.faults: dict[str, list[int]] = {}  # operation, or "download" -> statuses of its next answers, 0: none ever
        self.silence = threading.Event()  # set at the end, for the answers that never came
        self.api_key = "0" * 40
        self.sweep = ""  # YAML of the sweep that agents ask for
        self.proposals: list[dict[str, Any]] = []  # settings of its next runs

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def wandb_server(port: int = 0) -> Iterator[WandbServer]:
    """A server for the length of the block, on a free port unless one is given."""
    server = WandbServer(port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.silence.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        time.sleep(self.server.delay)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/graphql":
            self._graphql(json.loads(body))
        elif not self.path.endswith("/file_stream"):
            self._reply(b"{}", 404)
        else:
            _, _, _entity, project, name, _stream = self.path.split("/")
            receive_stream(self.server.runs[unquote(project), unquote(name)], json.loads(body))
            self._reply(b"{}")

    def _graphql(self, query: dict[str, Any]) -> None:
        key = base64.b64encode(f"api:{self.server.api_key}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {key}":
            self._reply(b'{"errors": [{"message": "user is not logged in"}]}', 401)
        elif not self._fails(operation_of(query["query"])):
            self._reply(json.dumps(graphql(self.server, query["query"], query.get("variables") or {})).encode())

    def _fails(self, operation: str) -> bool:
        """Whether this answer is one of the faults that the test ordered."""
        statuses = self.server.faults.get(operation)
        if not statuses:
            return False
        status = statuses[0] if statuses[0] == 0 else statuses.pop(0)
        if status:
            self._reply(b'{"error": "ordered by the test"}', status)
        else:
            self.server.silence.wait()
        return True

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        run, path = self._file()
        run.files[path] = body
        self._reply(b"")

    def do_GET(self) -> None:
        run, path = self._file()
        if not self._fails("download"):
            self._reply(parquet(run) if path == EXPORT else run.files[path])

    def _file(self) -> tuple[StoredRun, str]:
        _, _, project, name, path = self.path.split("/", 4)
        return self.server.runs[unquote(project), unquote(name)], unquote(path)

    def _reply(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
