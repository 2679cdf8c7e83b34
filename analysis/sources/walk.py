"""Folders below a source: of a run, a sweep, several sweeps side by side, or links to any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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
