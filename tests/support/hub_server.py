"""A Hugging Face Hub in a few lines, on this machine: the files of one data set at one commit."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class HubServer:
    """`with HubServer("me/data", commit, {"a.json": b"..."}) as hub: hub.url, hub.requests`."""

    def __init__(self, repository: str, commit: str, files: dict[str, bytes]) -> None:
        self.requests: list[str] = []
        paths = {f"/datasets/{repository}/resolve/{commit}/{name}": data for name, data in files.items()}
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, with_body: bool) -> None:
                requests.append(f"{self.command} {self.path}")
                data = paths.get(self.path)
                self.send_response(404 if data is None else 200)
                if data is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("ETag", f'"{hashlib.sha256(data or b"").hexdigest()}"')
                self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                if with_body:
                    self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
