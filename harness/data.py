"""Examples and instructions out of files or the built-in generator, checked row by row before anything expensive."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import Config, DatasetConfig, EvalSetConfig


@dataclass(frozen=True)
class Example:
    """One instruction with its answer; `where` names file and row for error messages."""

    instruction: str
    input: str
    output: str
    where: str


@dataclass(frozen=True)
class EvalItem:
    """One instruction to answer. `family` is AlpacaEval's `dataset`; `reference` the answer to compare with.

    `checkable`: a builtin task, whose answers are right or wrong. `groups`: those in which its accuracy counts, too.
    """

    instruction: str
    input: str
    family: str
    reference: str
    generator: str
    checkable: bool = False
    groups: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The instruction as AlpacaEval's files hold it: the input, if any, below the instruction."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


def check_inputs(config: Config) -> None:
    """Read every file of data that the run's stages need.

    Raises:
        ValueError: the first problem, naming file, row, key and value.
    """
    if {"train", "probe"} & set(config.stages):
        load_examples(config.dataset)
    load_eval_items(config.eval_set)


@cache
def load_examples(config: DatasetConfig) -> tuple[list[Example], list[Example]]:
    """The training and the held-out examples, shuffled by the data set's own seed.

    Raises:
        ValueError: a missing or broken file, or fewer rows than asked for.
    """
    wanted = None if config.size is None else config.size + config.heldout
    if config.name == "builtin":
        examples = _builtin_examples(config)
    else:
        examples = _alpaca_examples(_required_path("dataset", config.path))
    random.Random(config.seed).shuffle(examples)
    if len(examples) < (wanted or config.heldout + 1):
        raise ValueError(
            f"dataset={config.name}: {len(examples)} examples, but size and heldout={config.heldout} "
            f"ask for at least {wanted or config.heldout + 1}"
        )
    return examples[config.heldout : wanted], examples[: config.heldout]


@cache
def load_eval_items(config: EvalSetConfig) -> list[EvalItem]:
    """The instructions to answer, in the file's order.

    Raises:
        ValueError: a missing or broken file, a duplicate instruction, or nothing to answer.
    """
    if config.name == "builtin":
        items = _builtin_items(config)
    else:
        items = _file_items(_required_path("eval_set", config.path), config.limit)
    if not items:
        raise ValueError(f"eval_set={config.name}: no instructions to answer")
    return items


def _builtin_examples(config: DatasetConfig) -> list[Example]:
    from harness import builtin

    size = (config.size or 4096) + config.heldout
    items = builtin.generate("train", size, config.seed)
    return [Example(item.instruction, item.input, item.output, f"builtin {item.id}") for item in items]


def _builtin_items(config: EvalSetConfig) -> list[EvalItem]:
    from harness import builtin

    sizes: dict[builtin.Split, int] = {"heldout": config.heldout, "unseen": config.unseen}
    return [
        EvalItem(
            item.instruction, item.input, item.family, item.output, "gold", True, (split, f"level_{item.difficulty}")
        )
        for split, size in sizes.items()
        for item in builtin.generate(split, size, config.seed)
    ]


def _alpaca_examples(path: Path) -> list[Example]:
    examples = []
    for where, row in read_rows(path):
        instruction, output = text_field(row, "instruction", where), text_field(row, "output", where)
        input_text = text_field(row, "input", where) if row.get("input") is not None else ""
        if not output.strip():
            raise ValueError(f"{where}: key 'output' is empty: {output!r}")
        examples.append(Example(instruction, input_text, output, where))
    return examples


def _file_items(path: Path, limit: int | None) -> list[EvalItem]:
    items: list[EvalItem] = []
    seen: dict[str, str] = {}
    for where, row in read_rows(path):
        instruction = text_field(row, "instruction", where)
        if instruction in seen:
            raise ValueError(f"{where}: key 'instruction' repeats that of {seen[instruction]}: {instruction[:60]!r}")
        seen[instruction] = where
        reference = text_field(row, "output", where)
        items.append(
            EvalItem(
                instruction,
                "",
                str(row.get("dataset", path.stem)),
                reference,
                str(row.get("generator", "reference")),
            )
        )
    return items[:limit]


def _required_path(group: str, path: str | None) -> Path:
    if path is None:
        raise ValueError(f"{group}.path: is missing; give the file as {group}.path=FILE")
    return Path(path).expanduser()


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON array or of JSON lines, each with "file: row N" (from 1) for messages.

    Raises:
        ValueError: no such file, empty, not UTF-8, not JSON, or a row that is no object.
    """
    text = _read_utf8(path)
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    rows = _json_array(path, text) if text.lstrip()[0] == "[" else _json_lines(path, text)
    count = 0
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with keys, found {str(row)[:60]!r}")
        count += 1
        yield where, row
    if not count:
        raise ValueError(f"{path}: holds no rows")


def _read_utf8(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
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
        row = _rows_before(text, error.pos) + 1
        raise ValueError(
            f"{path}: row {row}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    assert isinstance(rows, list)
    return rows


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


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    row = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row += 1
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: row {row}: broken JSON at line {number}, column {error.colno}: {error.msg}"
            ) from None


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
