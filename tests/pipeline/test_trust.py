"""A run's folder is data: it starts no program, sends no key and runs no code that the user has not named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import SMALL, harness

from harness.judge.judges.local_model import load_config
from harness.models.load import load_model
from harness.models.save import save_model
from harness.models.tokenizer import load_tokenizer, positions
from harness.record.identity import run_id


def folder_from_elsewhere(compose: Any, *judge: str, stages: str = "judge") -> Path:
    """A run folder whose config.yaml names a judge of its own; its run_id is right."""
    config = compose(*SMALL, *judge, f"stages=[{stages}]")
    folder = Path(config.output_dir) / run_id(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    return folder


def test_a_foreign_interpreter_is_not_started(compose: Any, tmp_path: Path) -> None:
    spy = tmp_path / "python"
    spy.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    spy.chmod(0o755)
    folder = folder_from_elsewhere(compose, "judge=alpaca_eval", f"judge.python={spy}", "judge.api_key_env=null")
    for extra in ([], ["harness.dry_run=true"]):
        result = harness(f"run_id={folder}", "stages=[judge]", *extra, cwd=tmp_path)
        assert result.returncode == 2
        assert f"judge.python={spy}" in result.stderr
        assert "harness.trust_run=true" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "started").exists()
    harness(f"run_id={folder}", "stages=[judge]", "harness.trust_run=true", "harness.dry_run=true", cwd=tmp_path)
    assert (tmp_path / "started").exists()


FOREIGN = [
    (["judge=endpoint", "judge.base_url=http://evil.example/v1"], "judge.base_url=http://evil.example/v1"),
    (["judge=openai", "judge.base_url=http://evil.example/v1"], "judge.api_key_env=OPENAI_API_KEY"),
    (["judge=openai"], "judge.kind=openai"),
    (["judge.kind=python", "judge.target=evil:Judge"], "judge.target=evil:Judge"),
]


@pytest.mark.parametrize(("judge", "named"), FOREIGN)
def test_who_judges_is_said_on_the_command_line(judge: list[str], named: str, compose: Any) -> None:
    folder = folder_from_elsewhere(compose, *judge)
    with pytest.raises(ValueError, match=r"config\.yaml names") as caught:
        compose(f"run_id={folder}", "stages=[judge]")
    assert named in str(caught.value)
    own = compose(f"run_id={folder}", "stages=[judge]", "judge=reference")
    assert own.judge.kind == "reference"
    assert compose(f"run_id={folder}", "stages=[generate]").stages == ["generate"]
    assert compose(f"run_id={folder}", "stages=[judge]", *judge).judge.kind != "reference"
    assert compose(f"run_id={folder}", "stages=[judge]", "harness.trust_run=true").judge.kind != "reference"


def test_changing_one_key_does_not_confirm_the_others(compose: Any) -> None:
    folder = folder_from_elsewhere(compose, "judge=endpoint", "judge.base_url=http://evil.example/v1")
    with pytest.raises(ValueError, match=r"judge\.base_url=http://evil\.example/v1"):
        compose(f"run_id={folder}", "stages=[judge]", "judge.model=mine")


def test_task_files_run_code_and_need_a_word_too(compose: Any, tmp_path: Path) -> None:
    folder = folder_from_elsewhere(compose, f"probe.benchmarks.include_path={tmp_path}", stages="probe")
    with pytest.raises(ValueError, match=r"probe\.benchmarks\.include_path"):
        compose(f"run_id={folder}", "stages=[probe]")


def test_code_that_comes_with_a_model_never_runs_and_nobody_is_asked(
    compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = compose(*SMALL).model
    folder = tmp_path / "custom"
    save_model(load_model(tiny, 0), load_tokenizer(tiny), folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")

    def ask(*_: object) -> str:
        raise AssertionError("asked at a prompt")

    monkeypatch.setattr("builtins.input", ask)
    small = [each for each in SMALL if not each.startswith("model")]
    judged = ["judge=local_lm", f"judge.model={folder}"]
    with pytest.raises(ValueError, match="never run here"):
        positions(compose(*small, "model=local", f"model.path={folder}").model)
    with pytest.raises(ValueError, match="never run here"):
        load_config(compose(*SMALL, *judged).judge)
    assert not (tmp_path / "ran").exists()
