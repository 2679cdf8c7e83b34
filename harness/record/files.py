"""Files that appear whole (written to a temporary file, then renamed) or not at all, and reading them safely."""

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
from io import BufferedReader
from pathlib import Path
from typing import Any

# An unpaired surrogate: JSON can express it, but no file, frame or database can hold it.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
# A config has some thousand characters. The C parser of YAML crashes the interpreter on a text nested tens of
# thousands deep.
_MOST_CHARACTERS, _MOST_NESTED = 2_000_000, 2_000


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: after a crash either the old or the new content is there, never a part."""
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
    """The text with unpaired surrogates replaced by U+FFFD, so that it can be written."""
    return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, as UTF-8, refusing NaN."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def open_regular(path: Path) -> BufferedReader:
    """Open a file for binary reading; refuse a pipe or a device, which could block for ever.

    Raises:
        ValueError: not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: not a regular file")
    return open(descriptor, "rb")


def read_text(path: Path) -> str:
    """Read a regular file as UTF-8; a ValueError names a file that is not one."""
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
    except ValueError as error:  # an integer of thousands of digits, or not a regular file
        raise ValueError(f"{path}: not valid JSON: {str(error).removeprefix(f'{path}: ')}") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON: {len(text):,} characters nested too deeply") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: not JSON, or something other than an object; names the file.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(found).__name__}")
    return found


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run, a mapping in YAML. A run's folder may come from anybody.

    Raises:
        ValueError: not YAML, no mapping, or larger or more deeply nested than any settings; names the file.
    """
    import yaml

    text = read_text(path)
    if len(text) > _MOST_CHARACTERS or max(text.count(sign) for sign in "[{?") + text.count("- -") > _MOST_NESTED:
        raise ValueError(f"{path}: too large or too deeply nested for the settings of a run")
    try:
        # The C parser reads 500 configs in about a second; the pure one needs ten.
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    # ValueError: 2026-13-45 as a date; TypeError: a mapping as a key of another.
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(config).__name__}")
    return config


@contextmanager
def commit_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces `folder` when the block ends without an exception."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Replace `folder` with a finished one, synced to disk first so that a power cut leaves one of them whole."""
    for path in sorted(new.rglob("*")):
        sync(path)
    sync(new)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(new, folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
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
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
