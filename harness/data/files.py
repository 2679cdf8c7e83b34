"""Reads rows from JSON, JSON lines and Parquet files; errors name file and row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PARQUET = b"PAR1"
_SEPARATED = {".csv": ",", ".tsv": "\t"}
_GZIP = b"\x1f\x8b"
# First bytes of formats that are not read, and how to convert them.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive: unpack it (unzip)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it (zstd -d)",
    b"BZh": "compressed by bzip2: unpack it (bunzip2)",
    b"\xfd7zXZ": "compressed by xz: unpack it (unxz)",
    b"ARROW1": "an Arrow file: write it as Parquet (datasets: to_parquet)",
    b"\xff\xfe": "UTF-16: convert it (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16: convert it (iconv -f UTF-16 -t UTF-8)",
}


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON array, JSON lines or Parquet file, each with "file: row N" (from 1) for messages.

    The format is recognised by content, not by name; JSON may be compressed with gzip. A JSON file with a single object
    is read as a table if its values are columns of equal length (pandas: orient "list") or rows (orient "index").

    Raises:
        ValueError: no such file, empty, not UTF-8, not JSON, cut off, a row that is not an object, or a duplicate key.
    """
    if not path.is_file():
        found = "is a folder; give one file" if path.is_dir() else "is not a file but a pipe or a device"
        raise ValueError(f"{path}: {found if path.exists() else 'no such file'}")
    with open(path, "rb") as file:
        start = file.read(8)
    foreign = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), None)
    if foreign:
        raise ValueError(f"{path}: is {foreign}")
    count = 0
    for number, row in enumerate(_parquet(path) if start.startswith(_PARQUET) else _json(path, start), start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with keys, found {str(row)[:60]!r}")
        count += 1
        yield where, row
    if not count:
        raise ValueError(f"{path}: holds no rows")


def text_field(row: dict[str, Any], key: str, where: str) -> str:
    """A string from a row.

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
    # Not datasets.load_dataset, which treats a path as a pattern: "rows[1].parquet" would read rows1.parquet.
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: broken Parquet: {str(error).splitlines()[0]}; get the file again") from error


def _json(path: Path, start: bytes) -> Iterator[Any]:
    text = _read_utf8(path, start.startswith(_GZIP))
    first = text.lstrip()[:1]
    if not first:
        raise ValueError(f"{path}: the file is empty")
    try:
        yield from _json_array(path, text) if first == "[" else _json_lines(path, text)
    except RecursionError:
        raise ValueError(f"{path}: JSON nested too deeply to be rows of text") from None


def _read_utf8(path: Path, compressed: bool) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if compressed else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip: {error}; get the file again") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start} (line {line}); convert it"
        ) from None


class _KeyTwice(ValueError):
    """A JSON object with a duplicate key, of which Python would keep the last."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _KeyTwice(next(key for key in keys if keys.count(key) > 1))
    return found


_LONG_NUMBER = "holds an integer of thousands of digits, which no field of a row is"
_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _json_array(path: Path, text: str) -> list[Any]:
    try:
        rows = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(_broken(path, _rows_before(text, error.pos) + 1, error, text, error.lineno)) from None
    except _KeyTwice as error:
        raise ValueError(_twice(path, _rows_before(text, len(text)) + 1, error)) from None
    except ValueError:
        raise ValueError(f"{path}: row {_rows_before(text, len(text)) + 1}: {_LONG_NUMBER}") from None
    assert isinstance(rows, list)
    return rows


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
    for row, number in enumerate(filled, start=1):
        line = lines[number - 1]
        try:
            value = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            if row == 1 and (table := _one_object(path, text)) is not None:
                yield from table
                return
            if row == 1 and path.suffix.lower() in _SEPARATED:
                raise ValueError(_is_a_table_of_text(path)) from None
            broken = line if number == filled[-1] else line + "\n"
            raise ValueError(_broken(path, row, error, broken, number)) from None
        except _KeyTwice as error:
            raise ValueError(_twice(path, row, error)) from None
        except ValueError:
            raise ValueError(f"{path}: row {row}: {_LONG_NUMBER}") from None
        yield from (len(filled) == 1 and _table(value)) or [value]


def _is_a_table_of_text(path: Path) -> str:
    rows, separator = str(path.with_suffix(".jsonl")), _SEPARATED[path.suffix.lower()]
    read = f"import pandas as pd; pd.read_csv({str(path)!r}, sep={separator!r})"
    written = f".to_json({rows!r}, orient='records', lines=True)"
    return f'{path}: CSV is not read; make JSON lines of it: python -c "{read}{written}"'


def _one_object(path: Path, text: str) -> list[Any] | None:
    """The rows of a file that is one object over several lines; None if it is not.

    Raises:
        ValueError: it is an object but not a table.
    """
    try:
        whole = _DECODER.decode(text)
    except json.JSONDecodeError:
        return None
    except _KeyTwice as error:
        raise ValueError(_twice(path, 1, error)) from None
    except ValueError:
        raise ValueError(f"{path}: row 1: {_LONG_NUMBER}") from None
    table = _table(whole)
    if table is None:
        found = f"one object with keys {', '.join(map(repr, list(whole)[:5]))}"
        raise ValueError(f"{path}: {found}; expected an array of rows, or one row a line")
    return table


def _table(whole: Any) -> list[Any] | None:
    """The rows of {key: [value, ...]} with equally many values per key, or of {"0": {...}, "1": {...}}."""
    if not isinstance(whole, dict) or not whole:
        return None
    values = list(whole.values())
    if all(isinstance(value, dict) for value in values) and all(key.isdigit() for key in whole):
        return values
    if not all(isinstance(value, list) for value in values) or len({len(value) for value in values}) > 1:
        return None
    # A single chat row also holds a list: of messages, or (LIMA) of texts under a single key.
    alone = len(values) == 1
    if any(isinstance(each, dict) or (alone and isinstance(each, str)) for value in values for each in value):
        return None
    return [dict(zip(whole, row, strict=True)) for row in zip(*values, strict=True)]


def _twice(path: Path, row: int, error: _KeyTwice) -> str:
    return f"{path}: row {row}: key {str(error)!r} occurs twice in one object; keep the one that is meant"


def _broken(path: Path, row: int, error: json.JSONDecodeError, text: str, line: int) -> str:
    where = f"{path}: row {row}: broken JSON at line {line}, column {error.colno}: {error.msg}"
    # An unclosed string is reported where it begins; anything else that is missing, at the end.
    if error.pos >= len(text.rstrip(" \t\r")) or error.msg.startswith("Unterminated string"):
        return f"{where}; the file is cut off inside row {row}: get it again, or keep the {row - 1} rows before"
    if text[error.pos] == "\0":
        return f"{where} (a NUL byte); the file is damaged: get it again, or remove row {row}"
    if text[error.pos] in "]}" and text[: error.pos].rstrip().endswith(","):
        return f"{where}: the comma before it is one too many; remove it"
    return where


def _rows_before(text: str, position: int) -> int:
    """Number of complete rows of a JSON array before `position`, to name the broken one."""
    at, rows = text.index("[") + 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            _, at = _DECODER.raw_decode(text, at)
        except ValueError:
            return rows
        if at > position:
            return rows
        rows += 1
