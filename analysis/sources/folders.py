"""Runs from their folders: the truth that every other source copies."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.sources.history import read_history
from analysis.sources.record import (
    DIVERGED,
    FOREIGN,
    RUNNING,
    Details,
    RunRecord,
    flaw_of,
    is_of_harness,
    with_contents,
)
from harness.record import RunFolder, read_json, whole_text
from harness.record.files import read_text
from harness.record.variants import variants

# The C parser reads 500 configs in about a second; the pure one needs ten.
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# A config has some thousand characters. The C parser crashes the interpreter on a text nested tens of thousands deep.
_MOST_CHARACTERS, _MOST_NESTED = 2_000_000, 2_000
_ENDINGS = ("finished", "diverged")
# struct flock of Linux, 64 bits: type, whence, start, length, process.
_RECORD_LOCK = "hhqqi4x"


class FolderDetails(Details):
    """Reads the files of one run folder."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)

    def history_frame(self) -> pd.DataFrame:
        return read_history(self.folder / "metrics.jsonl")

    def outputs(self) -> list[dict[str, Any]]:
        return _read_rows(self.folder / "model_outputs.json", ("instruction", "output"))

    def annotations(self) -> list[dict[str, Any]]:
        return _read_rows(self.folder / "annotations.json", ("instruction", "output_1", "output_2"))


def read_folders(root: Path) -> list[RunRecord]:
    """Every run at or below `root`; one whose settings are not the harness's is foreign, a damaged one unreadable.

    What a run keeps of other judges or probe settings is a run RUN.TAG of its own.
    Folders with nothing of a run but a config.yaml are another program's, and none.
    """
    runs = [(folder, folder.name) for folder in run_folders(root)]
    others = [(each.path, f"{name}.{each.path.name}") for folder, name in runs for each in variants(RunFolder(folder))]
    return [record for folder, name in [*runs, *others] if (record := _read_folder(folder, name))]


def _read_folder(folder: Path, name: str) -> RunRecord | None:
    """None if it is no run's. Whatever is wrong with one folder, the others are read."""
    try:
        config = _read_config(folder / "config.yaml")
        return _record(folder, name, config) if is_of_harness(config) or _is_run(folder) else None
    except (ValueError, OSError) as error:
        return RunRecord(name, "unreadable", {}, {}, str(folder), Details(), str(error)) if _is_run(folder) else None


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("stages.json", "metrics.jsonl", "done", "failed"))


def run_folders(root: Path) -> list[Path]:
    """The folders with a config.yaml at or below `root`, ordered by path; wandb/ is full of W&B's own."""
    return folders(root, lambda folder: (folder / "config.yaml").is_file() and not _is_wandb(folder), skip="wandb")


def _is_wandb(folder: Path) -> bool:
    return folder.name == "files" and any(folder.parent.glob("run-*.wandb"))


def _record(folder: Path, name: str, config: dict[str, Any]) -> RunRecord:
    if not is_of_harness(config):
        return RunRecord(name, "foreign", {}, {}, str(folder), Details(), FOREIGN)
    is_locked = _is_locked(folder)  # first: a run that ends while it is looked at has ended, and was not interrupted
    done, failed = folder / "done", folder / "failed"
    final: dict[str, float] = {}
    reason, finished_at = "", 0.0
    if done.is_file():
        status = read_text(done).strip()
        if status not in _ENDINGS:
            raise ValueError(f"{done}: expected {' or '.join(_ENDINGS)}, found {status[:20]!r}")
        final, finished_at = _read_final(folder / "summary.json"), done.stat().st_mtime
    elif is_locked:
        status, reason = "running", RUNNING
    elif failed.is_file():
        status, finished_at = "failed", failed.stat().st_mtime
        error = _mapping(failed)
        reason = f"{error.get('type', 'Error')}: {error.get('message', '')}".strip()
    else:
        status, reason = (
            "incomplete",
            "interrupted: neither done nor failed, and no process that can be seen from here holds it",
        )
    if status == "diverged":
        reason = DIVERGED
    if flaw := flaw_of(config, final) or _flaw_of_stages(folder):
        raise ValueError(f"{folder}: {flaw}")
    config = with_contents(config, _contents(folder))
    return RunRecord(name, status, config, final, str(folder), FolderDetails(folder), reason, finished_at)


def _contents(folder: Path) -> Any:
    """Hashes of the files that the settings name, as the run found them; None of runs that noted none."""
    path = folder / "provenance.json"
    return _mapping(path).get("files") if path.exists() else None


def _flaw_of_stages(folder: Path) -> str:
    if not (folder / "stages.json").exists():
        return ""
    for name, stage in _mapping(folder / "stages.json").items():
        if not isinstance(stage, dict) or not isinstance(stage.get("seconds"), int | float):
            return f"stages.json: key {name}: expected a mapping with seconds"
    return ""


def _read_config(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if len(text) > _MOST_CHARACTERS or max(text.count(sign) for sign in "[{?") + text.count("- -") > _MOST_NESTED:
        raise ValueError(f"{path}: too large or too deeply nested for the settings of a run")
    try:
        config = yaml.load(text, _YAML)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, TypeError) as error:  # TypeError: a mapping as a key of another
        raise ValueError(f"{path}: not readable: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(config).__name__}")
    return config


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(found).__name__}")
    return found


def _read_final(path: Path) -> dict[str, float]:
    final = _mapping(path).get("final")
    if not isinstance(final, dict):
        raise ValueError(f"{path}: key final: expected a mapping of metrics to numbers, found {str(final)[:60]!r}")
    return final


def _read_rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that each have a text under these keys; the complaint names file, row and key."""
    if not path.exists():
        return []
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows, found {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise ValueError(f"{path}: row {number}: key {missing[0]!r} is missing")
        for key in keys:
            if not isinstance(row[key], str):
                raise ValueError(f"{path}: row {number}: key {key!r}: expected text, found {type(row[key]).__name__}")
    return [{key: whole_text(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]


def _is_locked(folder: Path) -> bool:
    """Whether a process holds the run, on this machine or another that shares the folder; looking takes no lock."""
    table, lock = Path("/proc/locks"), folder / ".lock"
    if not table.is_file() or not lock.is_file():
        return False
    rows = (line.split() for line in table.read_text().splitlines())
    held = {row[5].rpartition(":")[2] for row in rows if len(row) > 5 and row[1] == "FLOCK"}
    return str(lock.stat().st_ino) in held or _is_locked_elsewhere(lock)


def _is_locked_elsewhere(lock: Path) -> bool:
    """Whether another machine holds the file: NFS makes a record lock of our kind of lock, which can be asked for."""
    question = struct.pack(_RECORD_LOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(lock, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    except OSError:  # no lock service, or not ours to read
        return False
    return bool(struct.unpack(_RECORD_LOCK, answer)[0] != fcntl.F_UNLCK)


# runs/study/sweep/run: deeper than that lie checkpoints and caches.
_DEPTH = 4


def folders(root: Path, is_found: Callable[[Path], bool], skip: str = "") -> list[Path]:
    """The folders at or below `root` that `is_found` accepts, ordered by path; nothing inside of one is looked at.

    Hidden folders, those named `skip` and those that cannot be read are passed over; links are followed, and what two
    paths lead to is there once.
    """
    return list(_walk(root, is_found, skip, set(), _DEPTH))


def _walk(folder: Path, is_found: Callable[[Path], bool], skip: str, seen: set[Path], depth: int) -> Iterator[Path]:
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    if is_found(folder):
        yield folder
    elif depth:
        for child in _children(folder):
            if child.name != skip:
                yield from _walk(child, is_found, skip, seen, depth - 1)


def _children(folder: Path) -> list[Path]:
    """Folders before links to them, so that a link's target goes by its own name."""
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
    except (PermissionError, NotADirectoryError):
        return []
    return sorted(found, key=lambda path: (path.is_symlink(), path.name))
