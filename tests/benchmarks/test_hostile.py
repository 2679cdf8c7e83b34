"""The count of hostile input tells a refusal from a traceback and from a hang."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.hostile.attempt import HANDLED, HANG, ONE_LINE, TRACEBACK, Case, attempt, outcome
from benchmarks.hostile.contents import DAMAGES


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (0, "", HANDLED),
        (0, "warning: x\n", HANDLED),
        (2, "error: x: no such file\n", ONE_LINE),
        (1, "reading\nerror: 1 of 2 runs failed\n", ONE_LINE),
        (2, "usage: a\na: error: unrecognized arguments: b\n", ONE_LINE),
        (2, "", TRACEBACK),  # a refusal without a word
        (2, "error: a\nerror: b\n", TRACEBACK),
        (1, "Traceback (most recent call last):\nValueError: x\n", TRACEBACK),
        (0, "Traceback (most recent call last):\n", TRACEBACK),
        (-11, "", TRACEBACK),
        (3, "error: x\n", TRACEBACK),
    ],
)
def test_an_ending_is_one_of_four(status: int, said: str, expected: str) -> None:
    assert outcome(status, said) == expected


def test_a_case_runs_in_its_own_process_with_the_real_command(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[null]")
    ending = attempt(Case("judge", "null", ["harness.judge", "score", "bad.json"], tmp_path), 60)
    assert (ending.outcome, ending.status) == (ONE_LINE, 2)
    assert ending.said == "error: bad.json: row 0 is None, expected an object\n"


def test_a_command_that_waits_for_ever_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waits").mkdir()
    (tmp_path / "waits" / "__main__.py").write_text("import time\ndef main():\n    time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert attempt(Case("x", "y", ["waits"], tmp_path), 0.5).outcome == HANG


def test_every_damage_leaves_what_it_says(tmp_path: Path) -> None:
    for name, damage in DAMAGES.items():
        path = tmp_path / "file"
        path.write_text('{"a": 1}')
        damage(path)
        assert os.path.lexists(path) is (name != "missing")
        DAMAGES["missing"](path)
