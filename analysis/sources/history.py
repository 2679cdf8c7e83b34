"""The logged steps of a run folder, streamed: a million rows take the memory of their numbers, not of the text."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.metrics.names import with_current_names
from harness.record.files import open_regular

if TYPE_CHECKING:
    import pandas as pd

_NAN = float("nan")
# Bytes at the end of the file that contain the last row; of a longer row no step is shown.
_TAIL_BYTES = 1 << 20


def read_history(path: Path) -> pd.DataFrame:
    """step and one float column per metric, NaN where a step did not log it; no rows without the file.

    An incomplete row that a crash left at the very end is ignored.

    Raises:
        ValueError: a row is not what the harness writes; the message names file, line and key.
    """
    import pandas as pd

    steps = array("q")
    columns: dict[str, array[float]] = {}
    for number, row in _rows(path):
        step = row.pop("step", None)
        row = with_current_names(row)
        if not isinstance(step, int) or isinstance(step, bool):
            raise ValueError(
                f"{path}: row {number}: key 'step' is missing" if step is None else _unfit(path, number, "step")
            )
        for name, value in row.items():
            column = columns.setdefault(name, array("d"))
            column.extend([_NAN] * (len(steps) - len(column)))
            column.append(_number(path, number, name, value))
        steps.append(step)
    for column in columns.values():
        column.extend([_NAN] * (len(steps) - len(column)))
    return pd.DataFrame({"step": steps, **columns})


def last_row(path: Path) -> dict[str, Any]:
    """The last complete row; empty if there is no readable one."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        row = json.loads(next(line for line in reversed(lines) if line.endswith(b"\n")))
    except (OSError, ValueError, StopIteration, RecursionError):
        return {}
    return with_current_names(row) if isinstance(row, dict) and isinstance(row.get("step"), int) else {}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; invalid lines are due to a crash if no row follows them."""
    if not path.exists():
        return
    flaw = ""
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            row, said = _row(line)
            if row is None:
                flaw = flaw or f"{path}: row {number}{said}"
            elif flaw:
                raise ValueError(flaw)
            else:
                yield number, row


def _row(line: bytes) -> tuple[dict[str, Any] | None, str]:
    if not line.endswith(b"\n"):
        return None, " is torn"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f" is not valid JSON: {error}"
    return (row, "") if isinstance(row, dict) else (None, f": expected a mapping, found {type(row).__name__}")


def _number(path: Path, number: int, name: str, value: Any) -> float:
    if value is None:
        return _NAN
    try:
        return float(value) if isinstance(value, int | float) else float("x")
    except (ValueError, OverflowError):
        raise ValueError(_unfit(path, number, name)) from None


def _unfit(path: Path, number: int, name: str) -> str:
    return f"{path}: row {number}: key {name!r}: expected a number"
