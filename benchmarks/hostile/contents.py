"""Hostile content of files, whatever they should contain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

_DEEP = 50_000

Damage = Callable[[Path], None]


def written(content: bytes) -> Damage:
    """A file of this content."""
    return lambda path: _replace(path, content)


def _replace(path: Path, content: bytes) -> None:
    _remove(path)
    path.write_bytes(content)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _torn(path: Path) -> None:
    whole = path.read_bytes()
    _replace(path, whole[: len(whole) // 2])


def _zeros(path: Path) -> None:
    """What a power cut leaves of a block that never reached the disk."""
    whole = path.read_bytes()
    _replace(path, whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def _pipe(path: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _folder(path: Path) -> None:
    _remove(path)
    path.mkdir()


def _link_to_nowhere(path: Path) -> None:
    _remove(path)
    path.symlink_to("nowhere")


def _endless(path: Path) -> None:
    _remove(path)
    path.symlink_to("/dev/zero")


DAMAGES: dict[str, Damage] = {
    "empty": written(b""),
    "null": written(b"null"),
    "a number": written(b"3"),
    "a text": written(b'"text"'),
    "a list": written(b"[]"),
    "a list of null": written(b"[null]"),
    "a list in a list": written(b"[[1, 2], [3]]"),
    "an object": written(b"{}"),
    "of null": written(b'{"train": null, "final": null, "files": null, "model": null}'),
    "of lists": written(b'{"train": [1], "final": [1], "files": [1], "model": [1], "noise": [1], "harness": [1]}'),
    "deep list": written(b"[" * _DEEP),
    "deep and closed": written(b"[" * _DEEP + b"]" * _DEEP),
    "deep object": written(b'{"a":' * _DEEP),
    "not UTF-8": written(b'{"a": "\xff\xfe\x80"}'),
    "UTF-16": written('{"a": 1}'.encode("utf-16")),
    "NaN": written(b'{"final": {"judge/win_rate": NaN}, "step": NaN}'),
    "a long number": written(b'{"final": {"judge/win_rate": 1' + b"0" * 6000 + b'}, "step": 1' + b"0" * 6000 + b"}"),
    "half a character": written(b'{"final": {"\\ud800": 1}, "instruction": "\\ud800", "output": "\\udfff"}'),
    "a line of 8 MB": written(b'{"a": "' + b"x" * (8 << 20) + b'"}'),
    "binary": written(bytes(range(256)) * 16),
    "torn": _torn,
    "zeros at the end": _zeros,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link to nowhere": _link_to_nowhere,
    "an endless device": _endless,
    "missing": _remove,
}
