"""transformers' own `chat` and `serve` commands on a run's model/: the answers of the evaluation."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import SMALL, environment
from support.runs import folder_of

from harness.config.compose import compose
from harness.pipeline.plan import config_from
from harness.pipeline.runner import execute
from harness.record import read_json

for needed in ("fastapi", "uvicorn", "openai", "rich"):
    pytest.importorskip(needed, reason="needs transformers[serving]")
RANDOM = ("train.max_steps=1", "train.lr=1e-6", "generate.max_new_tokens=9")  # trained, the model ends at once
TRANSFORMERS = [sys.executable, "-c", "from transformers.cli.transformers import main; main()"]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*TRANSFORMERS, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield wait_for(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> str:
    while True:
        try:
            urllib.request.urlopen(f"{url}/health").close()
            return f"{url}/v1"
        except urllib.error.URLError:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            time.sleep(0.2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "runs"
    given = [*SMALL, "stages=[train,generate]", "dataset.prompt=vicuna_v1.1", *RANDOM, "tracking=disabled"]
    config = config_from(compose([*given, f"output_dir={place}"]))
    execute(config)
    return folder_of(config).path


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    with served(run / "model") as url:
        yield url


def test_transformers_chat_says_what_the_evaluation_got(run: Path, url: str, tmp_path: Path) -> None:
    """As docs/models.md has it: a server, then the chat with the run's generation_config and without sampling."""
    folder, rows = run / "model", read_json(run / "model_outputs.json")
    # `chat` turns <x> into \\<x\\> for its display, and keeps it so; it reads a line at a time.
    row = next(row for row in rows if "<" not in row["output"] and "\n" not in row["instruction"] and row["output"])
    flags = ["do_sample=false", "max_new_tokens=9", "--generation-config", str(folder)]
    done = subprocess.run(
        [*TRANSFORMERS, "chat", str(folder), url, *flags],
        # Where an answer is cut off it asks whether to go on: the first !save is then a no.
        input=f"{row['instruction']}\n!save\n!save\n!exit\n",
        env=environment(HF_HUB_OFFLINE="0"),  # its client takes the server for the Hub, and refuses it offline
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    saved = list(folder.glob("chat_*.json"))  # its place for a model that is a folder
    assert saved, done.stdout + done.stderr
    said = json.loads(saved[0].read_text())["chat_history"]
    assert [each["role"] for each in said] == ["user", "assistant"], done.stdout + done.stderr
    assert said[1]["content"].strip() == row["output"]


def test_the_server_alone_decodes_as_the_evaluation_did(run: Path, url: str) -> None:
    """A client that says nothing about decoding; max_tokens, because the server's own least is 1,024."""
    rows = read_json(run / "model_outputs.json")
    assert all(row["output"] for row in rows[:3])
    for row in rows[:3]:
        asked = [{"role": "user", "content": row["instruction"]}]
        body = {"model": str(run / "model"), "messages": asked, "max_tokens": 9}
        request = urllib.request.Request(
            f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            answer = json.loads(response.read())
        assert answer["choices"][0]["message"]["content"].strip() == row["output"]
