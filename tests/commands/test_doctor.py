"""What `harness doctor` finds, with real servers on this machine and nothing of the network."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.commands.doctor import Finding, findings, main

KEY = "sk-not-a-key-0123456789abcdef"


@contextmanager
def served(models: list[str], status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """An address that lists models, and the authorisation that it was shown."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization") or "")
            body = json.dumps({"data": [{"id": name} for name in models]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(*overrides: str, network: bool = False) -> dict[str, Finding]:
    return {each.what: each for each in findings(overrides, network)}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without keys."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def test_the_defaults_run_here(capsys, tmp_path):
    assert main([f"output_dir={tmp_path / 'runs'}"], "harness doctor") == 0
    shown = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in shown]
    assert [line.split()[0] for line in shown].count("fail") == 0
    for name in (
        "python",
        "packages",
        "processor",
        "memory",
        "gpu",
        "output_dir",
        "hub",
        "tracking",
        "judge",
        "generate",
    ):
        assert name in names
    assert list(tmp_path.iterdir()) == []


def test_a_bad_setting_is_a_finding_and_the_machine_is_told_all_the_same(capsys):
    assert main(["judge=nobody", "--json"], "harness doctor") == 1
    shown = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    assert shown["settings"]["state"] == "fail"
    assert "judge/nobody" in shown["settings"]["found"]
    assert shown["python"]["state"] == "ok"


def test_a_judge_that_has_ended_fails():
    judge = found("judge=openai", "judge.model=gpt-4-1106-preview")["judge"]
    assert judge.state == "fail"
    assert "ended on 2026-10-23" in judge.found


def test_a_judge_on_this_machine_is_asked_and_a_key_is_shown_to_it_alone(monkeypatch, capsys):
    pytest.importorskip("httpx", reason="httpx comes with the extra judge")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served(["one", "two"]) as (url, seen):
        words = ["judge=endpoint", f"judge.base_url={url}", "judge.api_key_env=OPENAI_API_KEY"]
        assert main([*words, "judge.model=two"], "harness doctor") == 0
        assert found(*words, "judge.model=three")["judge"].advice == "it serves one, two"
    assert seen == [f"Bearer {KEY}"] * 2
    assert KEY not in capsys.readouterr().out
    with served([], status=401) as (url, _):
        assert "refuses the key" in found(*words[:1], f"judge.base_url={url}")["judge"].found
    gone = found("judge=endpoint", f"judge.base_url={url}")["judge"]
    assert (gone.state, "does not answer" in gone.found) == ("fail", True)


def test_a_judge_elsewhere_is_not_asked_without_network(monkeypatch):
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    judge = found("judge=endpoint", "judge.base_url=https://judge.example/v1")["judge"]
    assert (judge.state, judge.advice) == ("ok", "--network asks it")
    assert found("model=pythia_70m")["hub"].found.startswith("model.hub_id will be fetched")


def test_wandb_online_needs_a_key(monkeypatch, tmp_path):
    assert found("tracking=online")["tracking"].advice == "wandb login, or tracking=offline"
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n", encoding="utf-8")
    tracking = found("tracking=online")["tracking"]
    assert tracking.state == "ok"
    assert KEY not in str(tracking)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    unreachable = found("tracking=online", network=True)["tracking"]
    assert (unreachable.state, "127.0.0.1:9 cannot be reached" in unreachable.found) == ("fail", True)


def test_a_folder_that_cannot_be_written_fails(tmp_path):
    if os.geteuid() == 0:
        shut = Path("/proc")
    else:
        shut = tmp_path / "shut"
        shut.mkdir(mode=0o500)
    assert found(f"output_dir={shut / 'runs'}")["output_dir"].state in ("fail", "warn")


def test_vllm_is_looked_for_where_it_is_asked_for():
    asked = found("generate.backend=vllm", "generate.python=/no/such/python")["generate"]
    assert (asked.state, "cannot be run" in asked.found) == ("fail", True)
