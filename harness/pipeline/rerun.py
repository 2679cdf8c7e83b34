"""`run_id=RUN`: an existing run, from its folder alone, with the changes that the command line makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config import Config, parse
from harness.pipeline.trust import refuse_foreign
from harness.record import read_mapping, read_settings

# The command's own switches and folders come from the command, not from the run's file.
_OF_THE_COMMAND = ("harness", "output_dir")
# Changing these does not make it another run.
_FREE = ("judge", "probe", "tracking", "stages", "experiment")


def stored_config(composed: dict[str, Any], overrides: Sequence[str]) -> Config:
    """The settings in RUN/config.yaml, with the overrides of the command applied.

    Args:
        composed: what Hydra composed from the command, with `run_id`: a name in output_dir, or a folder.
        overrides: those of the command, such as "stages=[generate]" or "judge=similarity".

    Raises:
        ValueError: no such run, an override that would make it another one, or a judge, program or task file that only
            the folder names.
    """
    from harness.record.identity import run_id

    folder = _folder(str(composed["run_id"]), str(composed["output_dir"]))
    plain = _settings(folder / "config.yaml", composed)
    plain |= {key: composed[key] for key in _OF_THE_COMMAND}
    plain["output_dir"] = str(folder.parent)
    plain["harness"] = {**plain["harness"], "files": _files(folder)}
    # Groups first: judge=similarity judge.model=... sets a key of the new choice.
    named = (line.lstrip("+~").split("=", 1)[0].split("/", 1)[0] for line in overrides)
    keys = sorted(named, key=lambda key: key.count("."))
    changed = [key for key in keys if key.split(".")[0] in plain and key.split(".")[0] not in _OF_THE_COMMAND]
    for key in changed:
        _lay_over(plain, composed, key.split("."))
    if not composed["harness"].get("trust_run"):
        refuse_foreign(str(composed["run_id"]), plain, composed)
    config = parse(plain)
    if run_id(config) != folder.name:
        cause = (
            ", ".join(key for key in changed if key.split(".")[0] not in _FREE)
            or "its files, or the version of this program"
        )
        raise ValueError(
            f"run_id={folder.name}: {cause} changed since it was trained, which makes it another run "
            f"({run_id(config)}); give the settings without run_id to train that one"
        )
    return config


def _settings(path: Path, composed: dict[str, Any]) -> dict[str, Any]:
    """The settings of the folder, in which each of our sections is a mapping, so that overrides can be applied."""
    plain = read_settings(path)
    wrong = _no_sections(plain, composed)
    if wrong or not isinstance(plain.get("harness"), dict):
        raise ValueError(f"{path}: holds no run's settings: key {(wrong or ['harness'])[0]}: expected a mapping")
    return plain


def _no_sections(stored: Any, ours: dict[str, Any], prefix: str = "") -> list[str]:
    """Keys of `stored` that hold a plain value where `ours` holds a section."""
    sections = {key: value for key, value in ours.items() if isinstance(value, dict) and stored.get(key) is not None}
    wrong = [prefix + key for key in sections if not isinstance(stored[key], dict)]
    inner = (_no_sections(stored[key], each, f"{prefix}{key}.") for key, each in sections.items())
    return wrong or [key for keys in inner for key in keys]


def _folder(name: str, output_dir: str) -> Path:
    folder = Path(name).expanduser() if "/" in name else Path(output_dir).expanduser() / name
    if not (folder / "config.yaml").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/config.yaml"))[:5]
        known = f"; there are {', '.join(there)}" if there else ""
        raise ValueError(f"run_id={name}: no such run in {folder.parent} (no config.yaml){known}")
    return folder


def _files(folder: Path) -> dict[str, str]:
    """Hashes of the run's files when it started: the files need not be on this machine any more."""
    path = folder / "provenance.json"
    files = read_mapping(path).get("files", {}) if path.exists() else {}
    if not isinstance(files, dict):
        raise ValueError(f"{path}: key files: expected a mapping, found {type(files).__name__}")
    return files


def _lay_over(plain: dict[str, Any], composed: dict[str, Any], key: list[str]) -> None:
    *path, last = key
    target, source = plain, composed
    for part in path:
        target, source = target.setdefault(part, {}), source[part]
    if last in source:
        target[last] = source[last]
