"""By which number a search looked at a run: kept in the run's folder, because tables have to know."""

from __future__ import annotations

from harness.record.files import read_text, write_text
from harness.record.folder import RunFolder

_FILE = "objective"


def read_objective(folder: RunFolder) -> str:
    """The final number by which a search compared the run with others; "" where none did."""
    path = folder / _FILE
    return read_text(path).strip() if path.is_file() else ""


def note_objective(folder: RunFolder, name: str) -> None:
    """Remember the number; one of the half of the instructions meant for choosing stays before any other."""
    if not read_objective(folder).startswith("selection/"):
        write_text(folder / _FILE, f"{name}\n")
