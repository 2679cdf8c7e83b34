"""Completion: the words that may come next, and the scripts in the shells that are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment

from harness.commands import COMMANDS
from harness.commands.completion import SCRIPTS, main, next_words


def test_the_first_word_is_a_command_or_a_setting():
    assert next_words([""]) == list(COMMANDS)
    assert next_words(["do"]) == ["doctor"]
    assert next_words(["no"]) == ["notebooks", "noise.", "noise="]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["noise=sym_"], ["noise=sym_gaussian", "noise=sym_uniform"]),
        (["run", "-m", "alpha=1,5", "train.lr"], ["train.lr="]),
        (["data", "dataset=sh"], ["dataset=sharegpt"]),
        (["table", "abl"], ["ablation"]),
        (["schema", "no"], ["noise"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_what_follows_a_command(typed, found):
    assert next_words(typed) == found


def test_elsewhere_files_are_completed(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    assert next_words(["report", "ru"]) == ["run.json", "runs/"]


def test_a_script_asks_with_words(capsys):
    assert main(["zsh", "--words", "sch"], "harness completion") == 0
    assert capsys.readouterr().out == "schema\n"


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_completes_in_the_shell_itself(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / f"completion.{shell}"
    script.write_text(SCRIPTS[shell], encoding="utf-8")
    line = "python -m harness noise=sym_"
    # compopt speaks to the line editor, which a script has not: bash says so on stderr and goes on.
    asked = {
        "bash": f"source {script}; COMP_LINE='{line}'; COMP_POINT={len(line)}; _harness; "
        "printf '%s\\n' ${COMPREPLY[@]}",
        "fish": f"source {script}; complete -C '{line}'",
        "zsh": f"compdef() {{ :; }}; compadd() {{ printf '%s\\n' ${{@:#-*}}; }}; source {script}; "
        f"words=({line}); CURRENT=${{#words}}; _harness",
    }[shell]
    given = environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", HOME=str(tmp_path))
    result = subprocess.run([shell, "-c", asked], env=given, capture_output=True, text=True, check=False, timeout=120)
    found = [word.rpartition("=")[2] for word in result.stdout.split()]
    assert found == ["sym_gaussian", "sym_uniform"], result.stderr
