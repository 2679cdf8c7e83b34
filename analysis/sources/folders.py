"""Runs from their folders, the authoritative source that all others copy."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.sources.cache import remember_text, remembered, remembered_text
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
from harness.metrics.names import with_current_names
from harness.record import RunFolder, read_json, read_mapping, read_settings, whole_text
from harness.record.files import read_text
from harness.record.objective import read_objective
from harness.record.variants import variants

if TYPE_CHECKING:
    import pandas as pd

    from analysis.sources.preferences import Preferences

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
        return _annotations(self.folder / "annotations.json")

    def preferences(self) -> Preferences:
        from analysis.sources.preferences import packed, preferences_of, unpacked

        path = self.folder / "annotations.json"
        return remembered(path, "preferences", lambda path: preferences_of(_annotations(path)), packed, unpacked)


def _annotations(path: Path) -> list[dict[str, Any]]:
    return _read_rows(path, ("instruction", "output_1", "output_2"))


def read_folders(root: Path) -> list[RunRecord]:
    """Every run at or below `root`; one whose settings are not the harness's is foreign, a damaged one unreadable.

    Results that a run keeps for other judges or probe settings are a separate run RUN.TAG. A folder with nothing but a
    config.yaml belongs to another program and is ignored.
    """
    runs = [(folder, folder.name) for folder in run_folders(root)]
    others = [(each.path, f"{name}.{each.path.name}") for folder, name in runs for each in variants(RunFolder(folder))]
    return [record for folder, name in [*runs, *others] if (record := _read_folder(folder, name))]


def _read_folder(folder: Path, name: str) -> RunRecord | None:
    """The run in a folder, None if there is none. Whatever is wrong with one folder, the others are read."""
    try:
        config = remembered(folder / "config.yaml", "settings", read_settings)
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
    done, failed = folder / "done", folder / "failed"
    # Before looking again: a run that ends in between has ended and was not interrupted.
    is_locked = not done.is_file() and _is_locked(folder)
    final: dict[str, float] = {}
    reason, finished_at = "", 0.0
    if done.is_file():
        status = read_text(done).strip()
        if status not in _ENDINGS:
            raise ValueError(f"{done}: expected {' or '.join(_ENDINGS)}, found {status[:20]!r}")
        summary, finished_at = folder / "summary.json", done.stat().st_mtime
        final = remembered(summary, "final", _read_final, _packed_final, _unpacked_final)
    elif is_locked:
        status, reason = "running", RUNNING
    elif failed.is_file():
        status, finished_at = "failed", failed.stat().st_mtime
        error = read_mapping(failed)
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
    config = with_contents(_with_objective(config, folder), _contents(folder))
    return RunRecord(name, status, config, final, str(folder), FolderDetails(folder), reason, finished_at)


def _with_objective(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With the number by which a search looked at the run, also one that came after it was done."""
    noted = read_objective(RunFolder(folder))
    return {**config, "harness": {**(config.get("harness") or {}), "objective": noted}} if noted else config


def _contents(folder: Path) -> Any:
    """Hashes of the files that the settings name, as recorded by the run; None if it recorded none."""
    path = folder / "provenance.json"
    return read_mapping(path).get("files") if path.exists() else None


def _flaw_of_stages(folder: Path) -> str:
    path = folder / "stages.json"
    return remembered(path, "flaw", _read_flaw) if path.exists() else ""


def _read_flaw(path: Path) -> str:
    for name, stage in read_mapping(path).items():
        if not isinstance(stage, dict) or not isinstance(stage.get("seconds"), int | float):
            return f"stages.json: key {name}: expected a mapping with seconds"
    return ""


def _read_final(path: Path) -> dict[str, float]:
    final = read_mapping(path).get("final")
    if not isinstance(final, dict):
        raise ValueError(f"{path}: key final: expected a mapping of metrics to numbers, found {str(final)[:60]!r}")
    return with_current_names(final)


def _packed_final(final: dict[str, float]) -> list[Any]:
    """The names apart from the numbers: all runs of a sweep have the same."""
    return [remember_text(json.dumps(list(final))), list(final.values())]


def _unpacked_final(kept: list[Any]) -> dict[str, float]:
    name, values = kept
    return dict(zip(_names(name), values, strict=True))


@lru_cache(maxsize=64)
def _names(name: str) -> list[str]:
    found: list[str] = json.loads(remembered_text(name))
    return found


def _read_rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows that each have text under these keys; errors name file, row and key."""
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
    """Whether a process holds the run, on this machine or another that shares the folder, without locking it."""
    table, lock = Path("/proc/locks"), folder / ".lock"
    if not table.is_file() or not lock.is_file():
        return False
    rows = (line.split() for line in table.read_text().splitlines())
    held = {row[5].rpartition(":")[2] for row in rows if len(row) > 5 and row[1] == "FLOCK"}
    return str(lock.stat().st_ino) in held or _is_locked_elsewhere(lock)


def _is_locked_elsewhere(lock: Path) -> bool:
    """Whether another machine holds the file: NFS turns our kind of lock into a record lock, which can be queried."""
    question = struct.pack(_RECORD_LOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(lock, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    except OSError:  # no lock service, or no permission
        return False
    return bool(struct.unpack(_RECORD_LOCK, answer)[0] != fcntl.F_UNLCK)


# runs/study/sweep/run: deeper folders are checkpoints and caches.
_DEPTH = 4


def folders(root: Path, is_found: Callable[[Path], bool], skip: str = "") -> list[Path]:
    """The folders at or below `root` that `is_found` accepts, ordered by path, without descending into them.

    Hidden folders, those named `skip` and unreadable ones are skipped; links are followed, and a folder that is reached
    by two paths is listed once.
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
    """Folders before links, so that a link's target is listed under its own name."""
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
    except (PermissionError, NotADirectoryError):
        return []
    return sorted(found, key=lambda path: (path.is_symlink(), path.name))
