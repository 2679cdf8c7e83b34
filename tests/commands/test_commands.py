"""The one door: help without anything heavy, every command reached, mistakes as one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.commands import ROOT, environment

from harness.commands import COMMANDS, dispatch, named, usage

HEAVY = ("hydra", "omegaconf", "pydantic", "torch", "transformers", "wandb", "pandas", "numpy")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "harness", *words]
    return subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=120)


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['harness', '--help']\n"
        "from harness.__main__ import main; main()\n"
        f"heavy = set({HEAVY!r}) & set(sys.modules); assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == usage("harness") + "\n"
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)


def test_settings_are_no_command():
    assert named("table")
    assert not any(map(named, ("alpha=5", "-m", "--help", "~tracking", "+mine=1")))
    with pytest.raises(ValueError, match=r"tabel: no such command \(did you mean table\?\)"):
        dispatch(["tabel"], "harness")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("run", "chat", "export")])
def test_every_command_tells_its_options_under_its_own_name(name, capsys):
    with pytest.raises(SystemExit) as left:
        dispatch([name, "--help"], "harness")
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: harness {name} ")


def test_the_documented_forms_are_the_same_commands():
    for ours, old in ((["chat", "--help"], "harness.chat"), (["export", "--help"], "harness.export")):
        forms = [command(*ours)]
        line = [sys.executable, "-m", old, "--help"]
        forms.append(subprocess.run(line, env=environment(), capture_output=True, text=True, check=False))
        assert [each.returncode for each in forms] == [0, 0]
        assert forms[0].stdout.partition("\n\n")[2] == forms[1].stdout.partition("\n\n")[2]


def test_run_is_hydras_command_line():
    planned = [command(*words, "harness.dry_run=true", "alpha=3") for words in ([], ["run"])]
    assert planned[0].stderr == planned[1].stderr
    assert "tiny_base-builtin-neftune-a3-s0" in planned[0].stderr
    wrong = command("tabel")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: tabel: no such command (did you mean table?)")


def test_every_module_that_a_command_names_exists():
    assert all(find_spec(each.module) for each in COMMANDS.values() if each.module)
