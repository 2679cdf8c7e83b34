"""Files of runs that were read before, kept as JSON in the harness's cache folder: a changed file is read again.

An entry holds for one file (its path, size, times and inode), for one way of reading it and for the code that reads it.
Whatever is wrong with an entry, the file itself is read; deleting the cache costs only time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from harness.record import cache as caches

Read = TypeVar("Read")

# A file that was written this shortly before it was read could change again within one tick of its file system's
# clock (2 s on FAT), and a second change of the same size would go unseen.
_SETTLED_NS = 3_000_000_000
# Entries of another version of the code are removed when nothing was added to them for so long.
_KEPT_S = 30 * 86400
# The code outside this package that decides what a file is read as.
_HARNESS = Path(__file__).parents[2] / "harness"
_CODE = ("record/files.py", "metrics/names.py", "metrics/preferences.py")


def remembered(
    path: Path,
    kind: str,
    read: Callable[[Path], Read],
    pack: Callable[[Read], Any] = lambda found: found,
    unpack: Callable[[Any], Read] = lambda packed: packed,
) -> Read:
    """`read(path)`, or the same from the cache if the file has not changed since. Errors are not kept.

    Args:
        path: of a file.
        kind: names this way of reading; a file may be read in several ways.
        read: reads the file.
        pack: makes JSON of what was read. What JSON cannot give back unchanged (dates, numbers as keys) is not kept.
        unpack: the inverse of `pack`. KeyError: a part is gone, so that the file is read again.
    """
    place, before = _entry(path, kind), _state(path)
    if place is None or before is None:
        return read(path)
    try:
        return unpack(_packed(place, before))
    except (OSError, ValueError, KeyError, TypeError):  # none yet, torn, or of an earlier state of the file
        pass
    found = read(path)
    if before == _state(path) and time.time_ns() - max(before[1:3]) > _SETTLED_NS:
        packed = pack(found)
        if _is_json(packed, set()):
            _write(place, {"file": before, "value": packed})
    return found


def remember_text(text: str) -> str:
    """Keep a text that many entries have in common; returns the name by which `remembered_text` finds it."""
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    if (folder := _folder()) is not None and not (place := folder / f"{name}.txt").exists():
        _write_text(place, text)
    return name


@cache
def remembered_text(name: str) -> str:
    """A text that was kept.

    Raises:
        KeyError: it is gone or damaged.
    """
    folder = _folder()
    try:
        text = (folder / f"{name}.txt").read_text(encoding="utf-8") if folder else ""
    except (OSError, ValueError):
        raise KeyError(name) from None
    if hashlib.sha256(text.encode()).hexdigest()[:32] != name:
        raise KeyError(name)
    return text


def _entry(path: Path, kind: str) -> Path | None:
    folder = _folder()
    key = f"{kind}\0{os.path.abspath(path)}"
    return folder and folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def _folder() -> Path | None:
    return _folder_of(*(os.environ.get(name) for name in ("NOISE_HARNESS_CACHE", "XDG_CACHE_HOME", "HOME")))


@cache
def _folder_of(*_environment: str | None) -> Path | None:
    """Where entries are, found once for each place that the environment names."""
    version = _version()
    return caches.cache_dir() / "analysis" / version if version else None


@cache
def _version() -> str:
    """A hash of the code that reads runs; "" if it cannot be read, so that nothing is kept."""
    here = Path(__file__).parent
    try:
        files = [*sorted(here.glob("*.py")), *(_HARNESS / name for name in _CODE)]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    except OSError:
        return ""


def _state(path: Path) -> list[int] | None:
    """Size, times of the last change of content and of the inode (nanoseconds), inode; None without the file.

    The inode's time cannot be set back, so that an edit of the same size is seen even if the other time was restored.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _packed(place: Path, state: list[int]) -> Any:
    entry = json.loads(place.read_bytes())
    if entry["file"] != state:
        raise KeyError("file")
    return entry["value"]


def _is_json(value: Any, inside: set[int]) -> bool:
    """Whether JSON gives the value back as it is; what occurs twice (an alias in YAML) could grow without end."""
    if value is None or type(value) in (str, int, float, bool):
        return True
    if type(value) not in (dict, list) or id(value) in inside:
        return False
    inside.add(id(value))
    if isinstance(value, dict) and not all(type(key) is str for key in value):
        return False
    return all(_is_json(each, inside) for each in (value.values() if isinstance(value, dict) else value))


def _write(place: Path, entry: dict[str, Any]) -> None:
    _write_text(place, json.dumps(entry, separators=(",", ":")))


def _write_text(place: Path, text: str) -> None:
    """Write atomically; without flushing to the disk, because a torn entry is noticed."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}.tmp")

    def write() -> None:
        if not place.parent.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            _remove_old(place.parent)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, place)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    caches.keep(write)


def _remove_old(ours: Path) -> None:
    """Remove what other versions of the code kept and have not added to for a month."""
    for folder in ours.parent.iterdir():
        if folder != ours and time.time() - folder.stat().st_mtime > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
