"""`run_id=RUN`: a run that is there already, from its folder alone, with what the command line changes about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.config import Config, parse
from harness.pipeline.trust import refuse_foreign
from harness.record import read_json

# The command's own switches and places come from the command, not from the run's file.
_OF_THE_COMMAND = ("harness", "output_dir")
# Changing these leaves a run what it is.
_FREE = ("judge", "probe", "tracking", "stages", "experiment")


def stored_config(composed: dict[str, Any], overrides: Sequence[str]) -> Config:
    """The settings in RUN/config.yaml, with the overrides of the command laid over them.

    Args:
        composed: what Hydra made of the whole command, with `run_id`: a name in output_dir, or a folder.
        overrides: the command's own, such as "stages=[generate]" or "judge=similarity".

    Raises:
        ValueError: no such run, an override that would make it another one, or a judge, program or task file that
            the folder alone names.
    """
    from harness.record.identity import run_id

    folder = _folder(str(composed["run_id"]), str(composed["output_dir"]))
    plain = _settings(folder / "config.yaml")
    plain |= {key: composed[key] for key in _OF_THE_COMMAND}
    plain["output_dir"] = str(folder.parent)
    plain["harness"] = {**plain["harness"], "files": _files(folder)}
    # Groups first: judge=similarity judge.model=... sets a key of the new choice.
    keys = sorted((line.lstrip("+~").split("=", 1)[0] for line in overrides), key=lambda key: key.count("."))
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


def _settings(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({type(error).__name__})") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("harness"), dict):
        raise ValueError(f"{path}: holds no run's settings")
    return plain


def _folder(name: str, output_dir: str) -> Path:
    folder = Path(name).expanduser() if "/" in name else Path(output_dir).expanduser() / name
    if not (folder / "config.yaml").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/config.yaml"))[:5]
        known = f"; there are {', '.join(there)}" if there else ""
        raise ValueError(f"run_id={name}: no such run in {folder.parent} (no config.yaml){known}")
    return folder


def _files(folder: Path) -> dict[str, str]:
    """Contents of the run's files when it started: they need not be on this machine any more."""
    path = folder / "provenance.json"
    files: dict[str, str] = read_json(path).get("files", {}) if path.exists() else {}
    return files


def _lay_over(plain: dict[str, Any], composed: dict[str, Any], key: list[str]) -> None:
    *path, last = key
    target, source = plain, composed
    for part in path:
        target, source = target.setdefault(part, {}), source[part]
    if last in source:
        target[last] = source[last]
