"""Files that appear whole (written beside, then renamed) or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# Half of a pair of UTF-16 units: JSON can name it, no file, frame or database can hold it.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: after a crash the old content or the new is there, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def whole_text(text: str) -> str:
    """The text with U+FFFD in the place of torn characters, so that it can be written."""
    return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, as UTF-8, refusing NaN."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def open_regular(path: Path) -> IO[bytes]:
    """Open for reading in binary. A pipe or a device, which could keep a reader waiting for ever, is refused.

    Raises:
        ValueError: not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: not a regular file")
    return open(descriptor, "rb")


def read_text(path: Path) -> str:
    """Read a regular file of UTF-8; a ValueError names a file that is neither."""
    try:
        return _read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from None


def _read_bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """Read JSON; a ValueError names the file and the place where it stops being JSON."""
    try:
        text = _read_bytes(path).decode("utf-8")
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON: {len(text):,} characters nested too deeply") from None


@contextmanager
def commit_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` when the block ends without an exception."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a finished folder in the place of another: synced to the disk first, so that a power cut leaves one whole."""
    for path in sorted(new.rglob("*")):
        sync(path)
    sync(new)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(new, folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's list of names, whatever happens to the machine next."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content (hex)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
