"""README: short enough to be read, and every command of it does what it says."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.commands import environment
from support.pages import ROOT, Command, commands
from support.study import sweep

from analysis.__main__ import main

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
COMMANDS = commands(README)
PLANNED = [each for each in COMMANDS if each.words[:3] == ("python", "-m", "harness")]
READ = [each for each in COMMANDS if each.words[2:3] == ("analysis",) and "entity/project" not in each.words]
MOST_WORDS = 900


def test_it_is_read_in_a_few_minutes() -> None:
    words = re.sub(r"<!--.*?-->|\(http[^)]*\)", " ", TEXT, flags=re.DOTALL).split()
    assert len(words) <= MOST_WORDS


def test_it_has_commands() -> None:
    assert len(PLANNED) >= 4
    assert len(READ) >= 3


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what README's reader has: data, instructions, a model, and a finished sweep in runs/."""
    folder = tmp_path_factory.mktemp("desk")
    sweep(folder / "runs", items=8)
    rows = [{"instruction": f"Name fruit {i}.", "output": f"Fruit {i} is an apple."} for i in range(200)]
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    asked = [{**row, "dataset": "fruit", "generator": "me"} for row in rows[:5]]
    (folder / "instructions.json").write_text(json.dumps(asked), encoding="utf-8")
    shutil.copytree(ROOT / "harness" / "assets" / "tiny_base", folder / "my_model")
    return folder


@pytest.mark.parametrize("command", PLANNED, ids=str)
def test_the_harness_plans_it(command: Command, desk: Path) -> None:
    words = [sys.executable, *command.words[1:], "harness.dry_run=true"]
    done = subprocess.run(words, cwd=desk, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ jobs?, \d+ distinct", done.stderr)


@pytest.mark.parametrize("command", READ, ids=str)
def test_analysis_does_it(command: Command, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    assert main(list(command.words[3:])) == 0


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
def test_names_of_the_code_exist(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(import_module(str(node.module)), alias.name) for alias in node.names)


def test_images_and_pages_are_there() -> None:
    for target in re.findall(r"(?:\]\(|src=\")([^)#\s\"]+)", TEXT):
        assert target.startswith("http") or Path(ROOT, target).exists(), target


def test_its_findings_are_those_of_the_lab_book() -> None:
    from experiments.site import findings

    assert f"<!-- findings -->\n{findings()}\n<!-- /findings -->" in TEXT, "python -m experiments.site README.md"
