"""Every command that README and the documentation tell a reader to type is one that the programs take."""

from __future__ import annotations

import argparse
import importlib.util
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, Command, commands, files
from support.sweeps import sweeping

EVERY = [command for page in PAGES for command in commands(page)]
DOORS = ("python", "-m", "harness"), ("harness",)
ANALYSES = {"status", "table", "figures", "report", "compare", "finding", "notebooks", "dashboard"}


def after_the_door(command: Command) -> list[str] | None:
    """The words behind `harness` or `python -m harness`; None for another command."""
    for door in DOORS:
        if command.words[: len(door)] == door:
            return list(command.words[len(door) :])
    return None


def named(command: Command) -> str:
    """The command of the harness that a line names; settings alone, or "run", are a run."""
    words = after_the_door(command) or []
    return words[0] if words and re.fullmatch(r"[a-z]+", words[0]) and words[0] != "run" else ""


HARNESS = [each for each in EVERY if after_the_door(each) is not None and not named(each)]
ANALYSIS = [each for each in EVERY if each.words[:3] == ("python", "-m", "analysis") or named(each) in ANALYSES]
OWN_COMMANDS = [each for each in EVERY if named(each) and named(each) not in ANALYSES]
DONE = (*HARNESS, *ANALYSIS, *OWN_COMMANDS)
MODULES = [each for each in EVERY if each.words[:2] == ("python", "-m") and each not in DONE]
MAKE = [each for each in EVERY if each.words[0] == "make"]
PIP = [each for each in EVERY if each.words[0] == "pip"]
OTHERS = {"wandb", "hf", "transformers", "docker", "uv", "python", "jupyter"}  # programs that are not ours
# What stands for a reader's own in a command.
OWN = {
    "model=...": "model=tiny",
    "noise=...": "noise=none,neftune",
    "dataset=...": "dataset=builtin",
    "judge=...": "judge=reference",
    "judge=mine": "judge=endpoint",
}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def jobs() -> Iterator[Callable[..., object]]:
    with sweeping() as found:
        yield found


def test_commands_are_found() -> None:
    """The pages are read: a change of their form must not leave them unchecked."""
    assert len(HARNESS) > 40
    assert len(ANALYSIS) > 20
    assert any(each.page.name == "README.md" for each in HARNESS)
    unknown = {each.words[0] for each in EVERY} - OTHERS - {"make", "pip", "harness"}
    assert not unknown


@pytest.mark.parametrize("command", HARNESS, ids=str)
def test_the_harness_takes_it(
    command: Command, jobs: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in after_the_door(command) or [] if word not in ("run", "-m", "...")]
    if any(word.startswith("run_id=") for word in words) or words in ([], ["--help"], ["--version"]):
        return  # a run's settings come from its folder
    arguments = ["hydra.mode=MULTIRUN", *_own_files(command.page, tmp_path)]
    monkeypatch.syspath_prepend(str(tmp_path))
    skip = 0
    for word in words:
        if word == "--config-dir":
            skip = 2
        # Launchers and searches are extras.
        if skip or word.startswith(("hydra/launcher=", "hydra.launcher.", "hparams_search=")):
            skip -= skip > 0
            continue
        arguments.append(OWN.get(word, word))
    overrides, compose = jobs(*arguments)  # type: ignore[misc]
    for job in (overrides[0], overrides[-1]):
        compose(job)


def _own_files(page: Path, folder: Path) -> list[str]:
    """Writes the files that the page shows; the override that lets Hydra find its YAML."""
    shown = files(page)
    for name, text in shown.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    roots = sorted({name.split("/")[0] for name in shown if name.endswith(".yaml")})
    return [f"hydra.searchpath=[{','.join(f'file://{folder / root}' for root in roots)}]"] if roots else []


@pytest.mark.parametrize("command", ANALYSIS, ids=str)
def test_analysis_takes_it(command: Command) -> None:
    from importlib import import_module

    from analysis.commands import COMMANDS
    from analysis.tables.computed.registry import COMPUTED
    from analysis.tables.layouts import LAYOUTS

    words = [word for word in after_the_door(command) or command.words[3:] if word != "..."]
    if not words:
        return
    if "," in words[0]:  # "{table NAME,report,...}"
        return
    assert words[0] in COMMANDS
    parser = argparse.ArgumentParser()
    import_module(f"analysis.commands.{words[0]}").add_arguments(parser)
    _, rest = parser.parse_known_args(words[1:])
    assert not [word for word in rest if word.startswith("-")]  # sources may follow an option
    if words[0] == "table" and len(words) > 1 and re.fullmatch(r"[a-z]\w*", words[1]):
        assert words[1] in {*COMPUTED, *LAYOUTS, "list", "custom", "runs", "mine"}


@pytest.mark.parametrize("command", OWN_COMMANDS, ids=str)
def test_the_harness_has_it(command: Command) -> None:
    assert importlib.util.find_spec("harness.commands"), "there are no commands but runs"
    from harness.commands import COMMANDS  # type: ignore[import-not-found,unused-ignore]

    assert named(command) in COMMANDS


@pytest.mark.parametrize("command", MODULES, ids=str)
def test_the_module_exists_and_takes_the_options(command: Command) -> None:
    module = command.words[2]
    if module in ("pip", "venv", "pytest"):
        return
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if module in ("harness.judge",) and command.words[3:]:
        assert command.words[3] in ("score", "audit", "leaderboard", "lengths")
    source = Path(str(spec.origin))
    if source.name == "__init__.py":
        source = source.with_name("__main__.py")
    folder = "".join(path.read_text(encoding="utf-8") for path in sorted(source.parent.glob("*.py")))
    for word in command.words[3:]:
        if word.startswith("--") and word not in ("--help", "--version"):
            assert f'"{word.split("=")[0]}"' in folder, f"{word}: the code of {module} does not know it"


@pytest.mark.parametrize("command", MAKE, ids=str)
def test_the_target_exists(command: Command) -> None:
    for word in command.words[1:]:
        assert "=" in word or word in TARGETS


@pytest.mark.parametrize("command", PIP, ids=str)
def test_the_extras_exist(command: Command) -> None:
    for name in re.findall(r"(?:noise-harness|\.)\[([\w,]+)\]", " ".join(command.words)):
        assert set(name.split(",")) <= set(EXTRAS)


def test_every_link_into_the_repository_leads_somewhere() -> None:
    """Pages of docs/ are checked by the site's build; README, CONTRIBUTING and the lab book are not in it."""
    outside = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("experiments/**/*.md"))]
    lost = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in outside
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert not lost
