"""The two tables behind the length-controlled win rate, keyed by instruction instead of by row number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_ORDER_FILE = Path(__file__).with_name("alpaca_eval_instructions.txt")
_GAMED_COLUMNS = ("preference", "std_delta_len", "instruction_difficulty")


def reference_positions(instructions: Sequence[str]) -> list[int]:
    """Position (from 0) of each instruction among AlpacaEval's 805, in the order of its reference outputs.

    Texts are compared exactly, by a hash of their UTF-8 bytes.

    Raises:
        ValueError: an instruction is not one of the 805, or is given twice.
    """
    known = _positions()
    positions = [known.get(_digest(instruction), -1) for instruction in instructions]
    unknown = [row for row, position in enumerate(positions) if position < 0]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(instructions)} instructions are not among AlpacaEval's 805 and have no "
            f"published difficulty; the first is row {unknown[0]}: {instructions[unknown[0]][:80]!r}"
        )
    first_rows: dict[int, int] = {}
    for row, position in enumerate(positions):
        if first_rows.setdefault(position, row) != row:
            raise ValueError(f"rows {first_rows[position]} and {row} hold the same instruction")
    return positions


def load_difficulty(
    source: Mapping[str, float] | pd.DataFrame | str | Path, instructions: Sequence[str]
) -> dict[str, float]:
    """Difficulty (a log-odds weight) of each of the instructions.

    Args:
        source: a mapping by instruction; or a table (a CSV file or a DataFrame) with the column
            instruction_difficulty and either `instruction`, or the position among AlpacaEval's 805 as the
            column `index`, an unnamed first column or the DataFrame's own index, as in AlpacaEval's
            instruction_difficulty.csv.
        instructions: the ones wanted, in any order, without repeats.

    Raises:
        ValueError: an instruction has no difficulty (a table by position serves AlpacaEval's instructions
            only) or is given twice; the table has other columns, repeats a key, or holds something that is
            not a number.
    """
    if isinstance(source, Mapping):
        return _select(source, instructions, "difficulty")
    name = "difficulty" if isinstance(source, pd.DataFrame) else str(source)
    table = source if isinstance(source, pd.DataFrame) else _read_csv(source)
    if "instruction_difficulty" not in table:
        raise ValueError(f"{name}: no column 'instruction_difficulty', found {list(map(str, table))}")
    _check_numbers(table, "instruction_difficulty", name)
    values = table["instruction_difficulty"].astype(float).tolist()
    if "instruction" in table:
        return _select(_unique(table["instruction"].tolist(), values, name), instructions, name)
    key = next((column for column in ("index", "Unnamed: 0") if column in table), None)
    by_position = _unique((table.index if key is None else table[key]).tolist(), values, name)
    positions = reference_positions(instructions)
    missing = [position for position in positions if position not in by_position]
    if missing:
        raise ValueError(f"{name}: no row for index {missing[0]} (and {len(missing) - 1} more)")
    return {text: by_position[position] for text, position in zip(instructions, positions, strict=True)}


def load_gamed(source: pd.DataFrame | str | Path) -> pd.DataFrame:
    """The rows of the gamed baselines (AlpacaEval's df_gamed.csv), checked.

    Returns:
        The table with preference in [0, 1] (the share of the gamed model), std_delta_len (length
        difference in standard deviations) and instruction_difficulty, as float64, in the file's order.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    name = "gamed" if isinstance(source, pd.DataFrame) else str(source)
    table = source if isinstance(source, pd.DataFrame) else _read_csv(source)
    for column in _GAMED_COLUMNS:
        if column not in table:
            raise ValueError(f"{name}: no column {column!r}, found {list(map(str, table))}")
        _check_numbers(table, column, name)
    outside = table.index[(table["preference"] < 0) | (table["preference"] > 1)]
    if len(outside):
        raise ValueError(f"{name}: row {outside[0]}: preference is {table['preference'][outside[0]]}, expected 0 to 1")
    return table.astype(dict.fromkeys(_GAMED_COLUMNS, float)).reset_index(drop=True)


def _digest(instruction: str) -> str:
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _positions() -> dict[str, int]:
    lines = _ORDER_FILE.read_text(encoding="ascii").splitlines()
    digests = [line for line in lines if not line.startswith("#")]
    return {digest: position for position, digest in enumerate(digests)}


def _read_csv(path: str | Path) -> pd.DataFrame:
    if not Path(path).is_file():  # a pipe or a device would be read for ever
        raise ValueError(f"{path}: no such file")
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as CSV: {' '.join(str(error).split())}") from None


def _check_numbers(table: pd.DataFrame, column: str, name: str) -> None:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise ValueError(f"{name}: row {wrong[0]}: {column} is {table[column].iloc[wrong[0]]!r}, expected a number")


def _unique(keys: list[Any], values: list[float], name: str) -> dict[Any, float]:
    by_key = dict(zip(keys, values, strict=True))
    if len(by_key) != len(keys):
        repeated = next(key for row, key in enumerate(keys) if key in keys[:row])
        raise ValueError(f"{name}: {repeated!r} is given twice")
    return by_key


def _select(by_instruction: Mapping[Any, float], instructions: Sequence[str], name: str) -> dict[str, float]:
    missing = [instruction for instruction in instructions if instruction not in by_instruction]
    if missing:
        raise ValueError(
            f"{name}: no difficulty for {len(missing)} of {len(instructions)} instructions; "
            f"the first is {missing[0][:80]!r}"
        )
    if len(set(instructions)) != len(instructions):
        repeated = next(text for row, text in enumerate(instructions) if text in instructions[:row])
        raise ValueError(f"annotations: instruction is given twice: {repeated[:80]!r}")
    return {instruction: float(by_instruction[instruction]) for instruction in instructions}
