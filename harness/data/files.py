"""Rows out of JSON, JSON lines and Parquet files; what is broken is named by file and row."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config import DatasetConfig

_PARQUET = b"PAR1"


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON array, JSON lines or Parquet file, each with "file: row N" (from 1) for messages.

    The kind of file is told by its content, not its name.

    Raises:
        ValueError: no such file, empty, not UTF-8, not JSON, cut off, or a row that is no object.
    """
    if not path.is_file():
        raise ValueError(f"{path}: {'is a folder; give one file' if path.is_dir() else 'no such file'}")
    with open(path, "rb") as file:
        rows = _parquet(path) if file.read(4) == _PARQUET else _json(path)
    count = 0
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with keys, found {str(row)[:60]!r}")
        count += 1
        yield where, row
    if not count:
        raise ValueError(f"{path}: holds no rows")


def text_field(row: dict[str, Any], key: str, where: str) -> str:
    """A string out of a row.

    Raises:
        ValueError: the key is missing or holds something other than text.
    """
    if key not in row:
        raise ValueError(f"{where}: key {key!r} is missing (keys: {', '.join(map(repr, row))})")
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{where}: key {key!r} must be text, found {type(value).__name__}: {str(value)[:60]!r}")
    return value


def _parquet(path: Path) -> Iterator[Any]:
    from datasets import load_dataset

    # Streaming reads the file where it lies; otherwise a copy of it would go to the library's cache.
    try:
        yield from load_dataset("parquet", data_files=str(path), split="train", streaming=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise ValueError(f"{path}: broken Parquet: {str(error).splitlines()[0]}; get the file again") from error


def _json(path: Path) -> Iterator[Any]:
    text = _read_utf8(path)
    start = text.lstrip()[:1]
    if not start:
        raise ValueError(f"{path}: the file is empty")
    try:
        yield from _json_array(path, text) if start == "[" else _json_lines(path, text)
    except RecursionError:
        raise ValueError(f"{path}: JSON nested too deeply to be rows of text") from None


def _read_utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start} (line {line}); convert it"
        ) from None


def _json_array(path: Path, text: str) -> list[Any]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(_broken(path, _rows_before(text, error.pos) + 1, error, text, error.lineno)) from None
    assert isinstance(rows, list)
    return rows


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    row = 0
    lines = text.split("\n")
    last = max(number for number, line in enumerate(lines, start=1) if line.strip())
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row += 1
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            _refuse_one_object(path, text)
            raise ValueError(_broken(path, row, error, line if number == last else line + "\n", number)) from None


def _refuse_one_object(path: Path, text: str) -> None:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return
    found = f"one object with keys {', '.join(map(repr, list(whole)[:5]))}"
    raise ValueError(f"{path}: {found}; expected an array of rows, or one row a line")


def _broken(path: Path, row: int, error: json.JSONDecodeError, text: str, line: int) -> str:
    where = f"{path}: row {row}: broken JSON at line {line}, column {error.colno}: {error.msg}"
    # A string that is never closed is reported where it begins; anything else that is missing, at the end.
    if error.pos >= len(text.rstrip(" \t\r")) or error.msg.startswith("Unterminated string"):
        return f"{where}; the file is cut off inside row {row}: get it again, or keep the {row - 1} rows before"
    if text[error.pos] == "\0":
        return f"{where} (a NUL byte); the file is damaged: get it again, or remove row {row}"
    return where


def _rows_before(text: str, position: int) -> int:
    """Whole rows of a JSON array that end before `position`, to name the broken one."""
    decoder, at, rows = json.JSONDecoder(), text.index("[") + 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            _, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return rows
        if at > position:
            return rows
        rows += 1


def hub_files(config: DatasetConfig) -> list[Path]:
    """The data set's files in the Hub's local cache, downloaded where they are missing.

    Raises:
        ValueError: a file is missing and offline=true, or cannot be fetched; says what to get and how.
    """
    return [cached_file(config, name) or _download(config, name) for name in config.hub_files]


def cached_file(config: DatasetConfig, name: str) -> Path | None:
    """A file of the pinned commit in the local cache, if it is there; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    assert config.hub_id is not None
    found = try_to_load_from_cache(config.hub_id, name, revision=config.revision, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def is_offline() -> bool:
    """offline=true was given (`go_offline`), or the Hub's own variable is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def go_offline() -> None:
    """Let nothing of this process and its children fetch from the Hub: data, models, tokenizers."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _download(config: DatasetConfig, name: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    assert config.hub_id is not None
    if is_offline():
        raise ValueError(f"{_missing(config, name)} and offline is set; {_how_to_get(config)}")
    print(f"{_missing(config, name)}: downloading it from {constants.ENDPOINT}", file=sys.stderr)
    try:
        return Path(hf_hub_download(config.hub_id, name, revision=config.revision, repo_type="dataset"))
    # The library's errors (no such repository, gated, no connection) are kinds of OSError and ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{_missing(config, name)} and cannot be fetched: {reason}; {_how_to_get(config)}") from error


def _missing(config: DatasetConfig, name: str) -> str:
    from huggingface_hub import constants

    commit = (config.revision or "")[:10]
    return f"dataset={config.name}: {config.hub_id}@{commit} {name} is not in the cache {constants.HF_HUB_CACHE}"


def _how_to_get(config: DatasetConfig) -> str:
    files = " ".join(config.hub_files)
    command = f"hf download --repo-type dataset --revision {config.revision} {config.hub_id} {files}"
    return f"where there is a network: {command}; then copy that cache here, or give the file as dataset.path=FILE"
