"""Runs from their folders: the truth that every other source copies."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.sources.record import DIVERGED, FOREIGN, RUNNING, Details, RunRecord, is_of_harness
from harness.record import RunFolder, read_json, whole_text

# The C parser reads 500 configs in about a second; the pure one needs ten.
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# struct flock of Linux, 64 bits: type, whence, start, length, process.
_RECORD_LOCK = "hhqqi4x"


class FolderDetails(Details):
    """Reads the files of one run folder."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)

    def history(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        try:
            return _checked(path, self.folder.metrics(), ("step",))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: a row is not valid JSON: {error}") from None

    def outputs(self) -> list[dict[str, Any]]:
        return _read_rows(self.folder / "model_outputs.json", ("instruction", "output"))

    def annotations(self) -> list[dict[str, Any]]:
        return _read_rows(self.folder / "annotations.json", ("instruction", "output_1", "output_2"))


def read_folders(root: Path) -> list[RunRecord]:
    """Every run at or below `root`; one whose settings are not the harness's is foreign.

    Folders with nothing of a run but a config.yaml are another program's, and none.

    Raises:
        ValueError: a file in a run folder does not hold what it should; the message names the file.
    """
    configs = ((folder, _read_config(folder / "config.yaml")) for folder in run_folders(root))
    return [_record(folder, config) for folder, config in configs if is_of_harness(config) or _is_run(folder)]


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("stages.json", "done", "failed"))


def run_folders(root: Path) -> list[Path]:
    """The folders with a config.yaml at or below `root`, ordered by path; wandb/ is full of W&B's own."""
    return folders(root, lambda folder: (folder / "config.yaml").is_file() and not _is_wandb(folder), skip="wandb")


def _is_wandb(folder: Path) -> bool:
    return folder.name == "files" and any(folder.parent.glob("run-*.wandb"))


def _record(folder: Path, config: dict[str, Any]) -> RunRecord:
    if not is_of_harness(config):
        return RunRecord(folder.name, "foreign", {}, {}, str(folder), Details(), FOREIGN)
    is_locked = _is_locked(folder)  # first: a run that ends while it is looked at has ended, and was not interrupted
    done, failed = folder / "done", folder / "failed"
    final: dict[str, float] = {}
    reason, finished_at = "", 0.0
    if done.is_file():
        status = done.read_text(encoding="utf-8").strip()
        final, finished_at = _read_final(folder / "summary.json"), done.stat().st_mtime
    elif is_locked:
        status, reason = "running", RUNNING
    elif failed.is_file():
        status, finished_at = "failed", failed.stat().st_mtime
        error = read_json(failed)
        reason = f"{error.get('type', 'Error')}: {error.get('message', '')}".strip()
    else:
        status, reason = (
            "incomplete",
            "interrupted: neither done nor failed, and no process that can be seen from here holds it",
        )
    if status == "diverged":
        reason = DIVERGED
    return RunRecord(folder.name, status, config, final, str(folder), FolderDetails(folder), reason, finished_at)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _YAML)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(config).__name__}")
    return config


def _read_final(path: Path) -> dict[str, float]:
    final = read_json(path).get("final")
    if not isinstance(final, dict):
        raise ValueError(f"{path}: key final: expected a mapping of metrics to numbers, found {final!r}")
    return final


def _read_rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = _checked(path, read_json(path), keys)
    return [{key: whole_text(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]


def _checked(path: Path, rows: Any, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, each a mapping with these keys; the complaint names file, row and key."""
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows, found {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise ValueError(f"{path}: row {number}: key {missing[0]!r} is missing")
    return rows


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
