"""Examples and instructions from files, the Hub or the built-in generator, checked before anything expensive."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from harness.config import Config, DatasetConfig, EvalSetConfig
from harness.data.cleaning import Report, clean
from harness.data.examples import EvalItem, Example
from harness.data.files import read_rows, text_field
from harness.data.hub import cached_file, hub_files, is_offline
from harness.data.rows import RowProblem, check_text


@dataclass(frozen=True)
class Loaded:
    """A data set after cleaning, shuffled by its own seed: the first `heldout` examples are kept out of training."""

    examples: list[Example]
    report: Report

    def describe(self) -> str:
        """One line for the log: source, layout, what cleaning did."""
        return self.report.describe(len(self.examples))


def check_dataset(config: Config) -> None:
    """Read the training examples. A dry run downloads nothing, and says what it skipped.

    Raises:
        ValueError: the first problem, naming file, row, key and value.
    """
    if config.harness.dry_run and _to_download(config.dataset):
        _say_once(f"dataset={config.dataset.name}: not checked, {config.dataset.hub_id} is not in the cache yet")
    else:
        load_dataset(config.dataset)


@cache
def load_dataset(config: DatasetConfig) -> Loaded:
    """All examples of a data set.

    Raises:
        ValueError: a missing or broken file, a row that no cleaning rule lets pass, or too few rows.
    """
    if config.name in _GENERATED:
        _refuse_unread("dataset", config.name, path=config.path, hub_id=config.hub_id)
        report, examples = Report(config.name), _GENERATED[config.name](config)
        report.rows = len(examples)
    else:
        files = [_required_path("dataset", config.path)] if config.hub_id is None else hub_files(config)
        report = Report(", ".join(map(str, files)))
        examples = list(clean(chain.from_iterable(map(read_rows, files)), config, report))
    random.Random(config.seed).shuffle(examples)
    require(len(examples), config)
    return Loaded(examples, report)


def load_examples(config: DatasetConfig) -> tuple[list[Example], list[Example]]:
    """The training and the held-out examples, before anything is tokenised.

    Raises:
        ValueError: as `load_dataset`.
    """
    examples, wanted = load_dataset(config).examples, wanted_examples(config)
    return examples[config.heldout : wanted], examples[: config.heldout]


def wanted_examples(config: DatasetConfig) -> int | None:
    """How many examples a run uses, held-out ones included; None: all."""
    return None if config.size is None else config.size + config.heldout


def require(count: int, config: DatasetConfig) -> None:
    """Refuse a data set that is too small.

    Raises:
        ValueError: fewer examples than asked for.
    """
    needed = wanted_examples(config) or config.heldout + 1
    if count < needed:
        raise ValueError(
            f"dataset={config.name}: {count} examples, but size and heldout={config.heldout} ask for at least {needed}"
        )


@cache
def load_eval_items(config: EvalSetConfig) -> list[EvalItem]:
    """The instructions to answer, in the file's order.

    Raises:
        ValueError: a missing or broken file, a duplicate instruction, or nothing to answer.
    """
    if config.name == "builtin":
        _refuse_unread("eval_set", config.name, path=config.path, limit=config.limit)
        items = _builtin_items(config)
    else:
        items = list(_file_items(_required_path("eval_set", config.path)))[: config.limit]
    if not items:
        raise ValueError(f"eval_set={config.name}: no instructions to answer")
    return items


def _builtin_examples(config: DatasetConfig) -> list[Example]:
    from harness.data import builtin

    size = (config.size or 4096) + config.heldout
    items = builtin.generate("train", size, config.seed)
    return [Example(item.instruction, item.input, item.output, f"builtin {item.id}") for item in items]


def _builtin_texts(config: DatasetConfig) -> list[Example]:
    """Plain text about the facts and skills of the builtin tasks, without instructions; every text once."""
    from harness.data.builtin.corpus import paragraphs

    size, texts = (config.size or 4096) + config.heldout, dict[str, None]()
    for text in paragraphs(config.seed):
        texts[text] = None
        if len(texts) == size:
            break
    return [Example("", "", text, f"builtin_text {number}") for number, text in enumerate(texts)]


_GENERATED = {"builtin": _builtin_examples, "builtin_text": _builtin_texts}


def _builtin_items(config: EvalSetConfig) -> list[EvalItem]:
    from harness.data import builtin

    sizes: dict[builtin.Split, int] = {"heldout": config.heldout, "unseen": config.unseen}
    return [
        EvalItem(
            item.instruction, item.input, item.family, item.output, "gold", True, (split, f"level_{item.difficulty}")
        )
        for split, size in sizes.items()
        for item in builtin.generate(split, size, config.seed)
    ]


def _file_items(path: Path) -> Iterator[EvalItem]:
    seen: dict[str, str] = {}
    for where, row in read_rows(path):
        instruction, reference = _sound_text(row, "instruction", where), _sound_text(row, "output", where)
        further = _sound_text(row, "input", where) if row.get("input") is not None else ""
        family, generator = (
            text_field(row, key, where) if row.get(key) is not None else default
            for key, default in (("dataset", path.stem), ("generator", "reference"))
        )
        item = EvalItem(instruction, further, family, reference, generator)
        if not item.text.strip():
            raise ValueError(f"{where}: key 'instruction' is empty: {instruction[:20]!r}")
        if item.text in seen:
            raise ValueError(f"{where}: key 'instruction' repeats that of {seen[item.text]}: {item.text[:60]!r}")
        seen[item.text] = where
        yield item


def _sound_text(row: dict[str, Any], key: str, where: str) -> str:
    """A text that a tokenizer accepts: without NUL characters and unpaired surrogates."""
    text = text_field(row, key, where)
    try:
        check_text(text, f"{where}: key {key!r}")
    except RowProblem as problem:
        raise ValueError(f"{problem}; fix the file") from None
    return text


def _refuse_unread(group: str, name: str, **keys: Any) -> None:
    """Refuse keys that name a file or part of one: a generated set would silently ignore them."""
    given = [f"{group}.{key}={value}" for key, value in keys.items() if value is not None]
    if given:
        other = "dataset=local" if group == "dataset" else "eval_set=alpaca_eval, or eval_set.heldout and .unseen"
        raise ValueError(f"{given[0]}: {group}={name} is generated and does not read it; choose {other}")


def _required_path(group: str, path: str | None) -> Path:
    if path is None:
        raise ValueError(f"{group}.path: is missing; give the file as {group}.path=FILE")
    return Path(path).expanduser()


def _to_download(config: DatasetConfig) -> bool:
    if config.hub_id is None or is_offline():
        return False
    return not all(cached_file(config, name) for name in config.hub_files)


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
