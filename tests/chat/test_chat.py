"""Talking to runs: the answers of the evaluation, from one or from two runs, and one line for what cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.commands import ROOT, SMALL, environment
from support.runs import folder_of

from harness.chat.__main__ import _visible
from harness.chat.talk import Talk
from harness.record import read_json


def chat(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.chat", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), input=text, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def run(compose, finished):
    def trained(*overrides: str):
        config = compose(*SMALL, "stages=[train,generate]", "train.max_steps=2", *overrides)
        finished(config)
        return folder_of(config).path

    return trained


def test_it_answers_as_the_evaluation_did(run):
    folder = run()
    talk = Talk(folder)
    for row in read_json(folder / "model_outputs.json")[:4]:
        if "\n\n" not in row["instruction"]:  # with an input, Alpaca's prompt is another
            assert "".join(talk.ask(row["instruction"])).strip() == row["output"]
    assert not talk.remembers


def test_two_runs_hear_the_same_and_a_conversation_goes_on(run):
    first, second = run("dataset.prompt=vicuna_v1.1"), run("dataset.prompt=vicuna_v1.1", "seed=1")
    done = chat(str(first), str(second), text="Name a colour.\n\nAnd another.\n/new\nA third.\n/quit\nnever\n")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in (f"[{first.name}]", f"[{second.name}]")] == [
        f"[{first.name}]",
        f"[{second.name}]",
    ] * 3
    talk = Talk(first, system="Be short.")
    assert list(talk.ask("Name a colour."))
    assert [each["role"] for each in talk.messages] == ["system", "user", "assistant"]
    talk.forget()
    assert len(talk.messages) == 1


def test_what_cannot_be_had_is_one_line(run, tmp_path):
    done = chat(str(tmp_path), text="")
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path}: no run (no config.yaml)\n")
    folder = run()
    with pytest.raises(ValueError, match="has no place for a system message"):
        Talk(folder, system="x")
    with pytest.raises(ValueError, match="no room for an answer"):
        list(Talk(folder).ask("word " * 2000))


def test_escape_sequences_of_a_model_stay_text():
    assert _visible("a\x1b[2J\nb\té") == "a\ufffd[2J\nb\té"
