"""Judges that have ended, are not served, or are not up yet; and those that are named instead."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from harness.config.paths import conf_dir
from harness.judge.audit import judge_config
from harness.judge.ended import SNAPSHOTS, annotators_folder, refuse_ended
from harness.judge.judges.registry import check_judge_model

NOW = datetime.date(2026, 11, 28)


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        (["judge=alpaca_eval"], "gpt-4-1106-preview"),
        (["judge=alpaca_eval_gpt4"], "gpt-4"),
        (["judge=alpaca_eval_chatgpt"], "gpt-3.5-turbo-16k-0613"),
        (["judge=openai", "judge.model=gpt-4"], "gpt-4"),
    ],
)
def test_a_dead_judge_is_refused_with_what_to_take(overrides: list[str], model: str) -> None:
    with pytest.raises(ValueError, match=rf"its model {re.escape(model)} ended on .* take judge=open_32b"):
        refuse_ended(judge_config(overrides), NOW)


def test_an_end_that_is_near_is_said_and_a_server_of_ones_own_is_free() -> None:
    assert "ends on 2027-01-14" in (refuse_ended(judge_config(["judge=openai"]), NOW) or "")
    with pytest.raises(ValueError, match="ended on 2027-01-14"):
        refuse_ended(judge_config(["judge=openai"]), datetime.date(2027, 1, 14))
    own = "judge.base_url=http://localhost:8000/v1"
    for overrides in (["judge=alpaca_eval_gpt4", own], ["judge=openai", "judge.model=gpt-4", own], ["judge=endpoint"]):
        assert refuse_ended(judge_config(overrides), NOW) is None


def test_an_annotator_of_ones_own_is_known_by_the_model_it_names(tmp_path: Path) -> None:
    (tmp_path / "configs.yaml").write_text(yaml.safe_dump({"mine": {"completions_kwargs": {"model_name": "gpt-4"}}}))
    with pytest.raises(ValueError, match="its model gpt-4 ended"):
        refuse_ended(judge_config(["judge=alpaca_eval", f"judge.annotators_config={tmp_path}"]), NOW)
    (tmp_path / "configs.yaml").write_text("[1, 2")
    assert refuse_ended(judge_config(["judge=alpaca_eval", f"judge.annotators_config={tmp_path}"]), NOW) is None


def test_the_annotator_of_alpaca_evals_head_is_at_hand() -> None:
    folder = annotators_folder("weighted_alpaca_eval_gpt4.1")
    assert folder is not None
    (settings,) = yaml.safe_load((folder / "configs.yaml").read_text()).values()
    assert settings["completions_kwargs"]["model_name"] in {each.model for each in SNAPSHOTS}
    assert annotators_folder("../x") is annotators_folder("chatgpt_fn") is None


@contextmanager
def models(body: Any, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(body).encode()
            self.send_response(status if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"judge.base_url=http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_server_without_the_model_is_refused_before_training() -> None:
    with models({"data": [{"id": "other"}, {"id": "qwen3:4b"}]}) as url:
        with pytest.raises(ValueError, match=r"judge\.model=mine: .* serves no such model; it lists other, qwen3:4b"):
            check_judge_model(judge_config(["judge=endpoint", "judge.model=mine", url]))
        assert check_judge_model(judge_config(["judge=endpoint", "judge.model='qwen3:4b'", url])) == []
    with models({"data": [{"id": "/models/file.gguf", "owned_by": "llamacpp"}]}) as url:
        assert check_judge_model(judge_config(["judge=endpoint", url])) == []


def test_a_server_that_is_not_up_or_lists_nothing_is_a_note() -> None:
    down = "judge.base_url=http://127.0.0.1:9/v1"
    assert "cannot be asked for its models yet" in check_judge_model(judge_config(["judge=endpoint", down]))[0]
    for body, status in (({}, 200), ({"detail": "no"}, 404), ([1], 200)):
        with models(body, status) as url:
            assert "does not list its models" in check_judge_model(judge_config(["judge=endpoint", url]))[0]


@pytest.mark.parametrize("path", sorted((conf_dir() / "judge").glob("open_*.yaml")), ids=lambda path: path.stem)
def test_open_judges_are_pinned_and_asked_in_both_orders(path: Path) -> None:
    config = judge_config([f"judge={path.stem}"])
    assert re.fullmatch(r"[0-9a-f]{40}", config.revision or "")
    assert config.name == path.stem
    assert f"vllm serve {config.model} --revision {config.revision}" in path.read_text()
    assert (config.order, config.logprobs, config.api_key_env) == ("both", True, None)


def test_no_experiment_names_a_judge_that_has_ended() -> None:
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        for name in re.findall(r"override /judge: (\S+)", path.read_text()):
            refuse_ended(judge_config([f"judge={name}"]), NOW)
