"""AlpacaEval's files: model_outputs.json, reference outputs and annotations.json, read strictly, joined exactly.

Rows are dicts with AlpacaEval's keys. Instructions are compared exactly: a trailing space, another Unicode
normalisation or another line ending makes another instruction. Row numbers in messages count from 0.
"""

from __future__ import annotations

import json
import math
import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.record import read_json, write_text

Row = dict[str, Any]

OUTPUT_KEYS = ("instruction", "output", "generator")
ANNOTATION_KEYS = (
    "instruction",
    "output_1",
    "output_2",
    "generator_1",
    "generator_2",
    "annotator",
    "preference",
)

_UNPARSED = -1  # alpaca_eval's files use this for a reply that could not be parsed
_PREFIX = "preference_"
_PREFIXED_KEYS = ("price_per_example", "time_per_example", "raw_completion", "date", "version")


@dataclass(frozen=True)
class JoinReport:
    """What joined on the instruction text and what did not.

    near_misses pairs a left with a right instruction that would be equal after Unicode normalisation
    (NFC), with white space collapsed and letter case ignored: usually the reason why they did not join.
    """

    n_joined: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    near_misses: tuple[tuple[str, str], ...]

    @property
    def complete(self) -> bool:
        return not self.only_left and not self.only_right

    def describe(self, left: str = "left", right: str = "right") -> str:
        """A line with the counts, then one line for each near miss (at most 5)."""
        counts = f"{len(self.only_left)} only in {left}, {len(self.only_right)} only in {right}"
        lines = [f"{self.n_joined} joined, {counts}"]
        lines += [f"  nearly equal: {first[-60:]!r} / {second[-60:]!r}" for first, second in self.near_misses[:5]]
        return "\n".join(lines)


def read_model_outputs(path: Path) -> list[Row]:
    """Rows of a model_outputs.json or of reference outputs, which have the same format.

    Returns:
        In the file's order, with instruction, output and generator as text; dataset and any other keys
        where the file has them; `samples`, all answers of which `output` is the first, as a list of texts.
        An output may be empty, an instruction may not.

    Raises:
        ValueError: not JSON, not a list of objects, a key is missing or not text, or an instruction occurs
            twice; names file, row, key and value.
    """
    rows = _read_rows(path)
    for number, row in enumerate(rows):
        _check_texts(row, OUTPUT_KEYS, f"{path}: row {number}")
        samples = row.get("samples", [row["output"]])
        if not isinstance(samples, list) or not samples or not all(isinstance(text, str) for text in samples):
            raise ValueError(f"{path}: row {number}: key 'samples' is {_shown(samples)}, expected a list of texts")
    _check_unique(rows, str(path))
    return rows


def read_annotations(path: Path) -> list[Row]:
    """Rows of an annotations.json of any version, converted to one format.

    Returns:
        In the file's order. preference is a float in [1, 2] (1 the reference wins, 2 the model wins, 1.5 a
        draw, for which older files have 0) or None (no verdict: null, NaN, or alpaca_eval's -1). The 0.6.x
        names preference_price_per_example, preference_time_per_example, preference_raw_completion,
        preference_date and preference_version lose their prefix. Other keys stay as they are.

    Raises:
        ValueError: not JSON, not a list of objects, a key is missing, has the wrong type or stands under both
            names, a preference lies outside, or an instruction occurs twice; names file, row, key and value.
    """
    rows = [_plain_names(row, f"{path}: row {number}") for number, row in enumerate(_read_rows(path))]
    for number, row in enumerate(rows):
        row["preference"] = _check_annotation(row, f"{path}: row {number}")
    _check_unique(rows, str(path))
    return rows


def write_annotations(
    path: Path, rows: Iterable[Mapping[str, Any]], names: Literal["released", "0.6"] = "released"
) -> None:
    """Write rows as annotations.json, atomically, after the same checks as when reading.

    Args:
        path: the file.
        rows: as `read_annotations` returns them.
        names: "released" as in the leaderboard's files; "0.6" puts the prefix preference_ before
            price_per_example, time_per_example, raw_completion, date and version, as alpaca_eval 0.6.x does.
    """
    if names not in ("released", "0.6"):
        raise ValueError(f'names is {names!r}, expected "released" or "0.6"')
    plain = [_plain_names(row, f"{path}: row {number}") for number, row in enumerate(rows)]
    for number, row in enumerate(plain):
        row["preference"] = _check_annotation(row, f"{path}: row {number}")
    _check_unique(plain, str(path))
    prefix = _PREFIX if names == "0.6" else ""
    _write_rows(
        path,
        [{(prefix + key if key in _PREFIXED_KEYS else key): value for key, value in row.items()} for row in plain],
    )


def join_on_instruction(
    left: Sequence[Row], right: Sequence[Row], left_name: str = "left", right_name: str = "right"
) -> tuple[list[tuple[Row, Row]], JoinReport]:
    """Pairs of rows with exactly the same instruction, in the order of `right`, and a report of the others.

    Raises:
        ValueError: an instruction occurs twice on one side.
    """
    _check_unique(left, left_name)
    _check_unique(right, right_name)
    by_instruction = {row["instruction"]: row for row in left}
    wanted = {row["instruction"] for row in right}
    pairs = [(by_instruction[row["instruction"]], row) for row in right if row["instruction"] in by_instruction]
    only_left = tuple(text for text in by_instruction if text not in wanted)
    only_right = tuple(row["instruction"] for row in right if row["instruction"] not in by_instruction)
    loose = {_loose(text): text for text in only_right}
    near = tuple((text, loose[_loose(text)]) for text in only_left if _loose(text) in loose)
    return pairs, JoinReport(len(pairs), only_left, only_right, near)


def pair_outputs(outputs: Sequence[Row], reference: Sequence[Row]) -> tuple[list[Row], JoinReport]:
    """Rows to be judged: output_1 the reference's and output_2 the model's answer to the same instruction.

    Returns:
        Rows with instruction, dataset (where the reference has one), output_1, generator_1, output_2 and
        generator_2, in the order of the reference, and the report of what did not join (left: the model's).

    Raises:
        ValueError: an instruction occurs twice on one side.
    """
    pairs, report = join_on_instruction(outputs, reference, "model outputs", "reference outputs")
    rows = []
    for model, base in pairs:
        dataset = {"dataset": base["dataset"]} if "dataset" in base else {}
        first = {"output_1": base["output"], "generator_1": base["generator"]}
        second = {"output_2": model["output"], "generator_2": model["generator"]}
        several = {"samples": model["samples"]} if "samples" in model else {}
        rows.append({"instruction": base["instruction"], **dataset, **first, **second, **several})
    return rows, report


def by_sample(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows once for each sample, each with that sample's answer and verdict; of one answer each, the rows.

    Raises:
        ValueError: rows with different numbers of samples.
    """
    counts = {len(row.get("samples", ())) for row in rows}
    if len(counts) > 1:
        raise ValueError(
            f"annotations: rows of {' and '.join(map(str, sorted(counts)))} samples; expected as many in all"
        )
    if counts <= {0}:
        return [list(rows)]
    found = []
    for number in range(counts.pop()):
        each = [(row, row["samples"][number]) for row in rows]
        found.append([{**row, **said, "output_2": said["output"]} for row, said in each])
    return found


def order_is_switched(instruction: str, seed: int = 0) -> bool:
    """Whether AlpacaEval shows the judge the model's answer first for this instruction.

    Source: alpaca_eval's RandomSwitchTwoColumnsProcessor; with seed 0 it switches 406 of the 805.
    """
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True])[0]


def _read_rows(path: Path) -> list[Row]:
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected a list with at least one row, found {_shown(rows)}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}: row {number} is {_shown(row)}, expected an object")
    return rows


def _write_rows(path: Path, rows: list[Row]) -> None:
    write_text(path, json.dumps(rows, indent=2, allow_nan=False) + "\n")


def _check_texts(row: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    for key in keys:
        if key not in row:
            raise ValueError(f"{where}: key {key!r} is missing; found {', '.join(row)}")
        if not isinstance(row[key], str):
            raise ValueError(f"{where}: key {key!r} is {_shown(row[key])}, expected text")
    if not row["instruction"]:
        raise ValueError(f"{where}: key 'instruction' is empty")
    if not isinstance(row.get("dataset", ""), str):
        raise ValueError(f"{where}: key 'dataset' is {_shown(row['dataset'])}, expected text")


def _check_annotation(row: Mapping[str, Any], where: str) -> float | None:
    """Check a row; return its preference in the common format."""
    if "preference" not in row:
        raise ValueError(f"{where}: key 'preference' is missing; found {', '.join(row)}")
    _check_texts(row, (key for key in ANNOTATION_KEYS if key != "preference"), where)
    for key in ("price_per_example", "time_per_example"):
        if row.get(key) is not None and not _is_number(row[key]):
            raise ValueError(f"{where}: key {key!r} is {_shown(row[key])}, expected a number or null")
    value = row["preference"]
    if value is None or (_is_number(value) and (math.isnan(value) or value == _UNPARSED)):
        return None
    if not _is_number(value) or not (value == 0 or 1 <= value <= 2):
        raise ValueError(
            f"{where}: key 'preference' is {_shown(value)}, expected a number from 1 to 2, 0 (a draw) or null"
        )
    return 1.5 if value == 0 else float(value)


def _check_unique(rows: Iterable[Mapping[str, Any]], name: str) -> None:
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        earlier = first.setdefault(row["instruction"], number)
        if earlier != number:
            raise ValueError(
                f"{name}: rows {earlier} and {number} have the same instruction {_shown(row['instruction'])}"
            )


def _plain_names(row: Mapping[str, Any], where: str) -> Row:
    plain = {}
    for key, value in row.items():
        name = key.removeprefix(_PREFIX) if key.removeprefix(_PREFIX) in _PREFIXED_KEYS else key
        if name in plain:
            raise ValueError(f"{where}: key {name!r} occurs twice, with and without the prefix {_PREFIX!r}")
        plain[name] = value
    return plain


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _loose(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
