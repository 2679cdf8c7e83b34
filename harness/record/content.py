"""The content at a path as a hash: every byte is read once, and again only after the file has changed."""

from __future__ import annotations

import hashlib
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from harness.config.paths import canonical_json, resolve_path
from harness.record.cache import cache_dir, keep
from harness.record.files import file_hash, write_text
from harness.system.looks import looked_once

# Files next to weights and tokenizer that have no effect on what a model computes.
_DOCUMENTS = (
    *("*.md", "*.rst", "*.pdf", "*.html", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.ipynb"),
    *("README*", "LICENSE*", "LICENCE*", "NOTICE*", "CITATION*", "CHANGELOG*", "USE_POLICY*", "*.lock"),
)
_REMEMBERED = 64 << 20  # bytes; the hash of a larger file is cached for other processes
_SLOW = 4 << 30  # bytes


@looked_once
def path_fingerprint(path: str) -> str:
    """SHA-256 (hex) of a file, or of names and contents of a folder's files, without documents and hidden files.

    Raises:
        ValueError: there is nothing at the path.
    """
    root = resolve_path(path)
    files = _files_of(root) if root.is_dir() else [root]
    parts = [
        (str(file.relative_to(root)) if file != root else "", file.stat().st_size, content(file)) for file in files
    ]
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def content(path: Path) -> str:
    """SHA-256 of a file (hex), from the cache if path, size, times and inode are unchanged."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino)
    return _content(*key)


@cache
def _content(path: str, size: int, *state: int) -> str:
    if size < _REMEMBERED:
        return file_hash(Path(path))
    key = hashlib.sha256(canonical_json([path, size, *state]).encode()).hexdigest()
    kept = cache_dir() / "hashes" / key[:32]
    if kept.is_file() and len(found := kept.read_text(encoding="ascii", errors="replace").strip()) == 64:
        return found
    if size >= _SLOW:
        print(f"reading {path} ({size / 1e9:.0f} GB) for its hash, once", file=sys.stderr)
    made = file_hash(Path(path))
    keep(lambda: write_text(kept, made + "\n"))
    return made


def _files_of(folder: Path) -> list[Path]:
    """The files that can change a result, in order."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not _is_document(path.relative_to(folder))]


def _is_document(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or any(fnmatch(path.name.lower(), pattern.lower()) for pattern in _DOCUMENTS)
