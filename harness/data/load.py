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
from harness.config.paths import resolve_path
from harness.data.cleaning import Report, clean
from harness.data.eval_formats import read_format
from harness.data.examples import EvalItem, Example
from harness.data.files import read_rows, text_field
from harness.data.hub import HubSource, cached_file, hub_files, is_offline
from harness.data.rows import RowProblem, check_text

# Generated examples and items: some seconds.
_MOST = 200_000


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
        items = _limited(list(_unique(_file_items(config))), config.limit)
    if not items:
        raise ValueError(f"eval_set={config.name}: no instructions to answer")
    return items


def _generated_size(config: DatasetConfig) -> int:
    _refuse_more("dataset", size=config.size, heldout=config.heldout)
    return (config.size or 4096) + config.heldout


def _refuse_more(group: str, **sizes: int | None) -> None:
    """Refuse a size that would be generated for minutes or without end."""
    for key, size in sizes.items():
        if size is not None and size > _MOST:
            raise ValueError(f"{group}.{key}={size}: at most {_MOST:,} are generated")


def _builtin_examples(config: DatasetConfig) -> list[Example]:
    from harness.data import builtin

    size = _generated_size(config)
    items = builtin.generate("train", size, config.seed)
    return [Example(item.instruction, item.input, item.output, f"builtin {item.id}") for item in items]


def _builtin_texts(config: DatasetConfig) -> list[Example]:
    """Plain text about the facts and skills of the builtin tasks, without instructions; every text once."""
    from harness.data.builtin.corpus import paragraphs

    size, texts = _generated_size(config), dict[str, None]()
    for text in paragraphs(config.seed):
        texts[text] = None
        if len(texts) == size:
            break
    return [Example("", "", text, f"builtin_text {number}") for number, text in enumerate(texts)]


_GENERATED = {"builtin": _builtin_examples, "builtin_text": _builtin_texts}


def _builtin_items(config: EvalSetConfig) -> list[EvalItem]:
    from harness.data import builtin

    _refuse_more("eval_set", heldout=config.heldout, unseen=config.unseen)
    sizes: dict[builtin.Split, int] = {"heldout": config.heldout, "unseen": config.unseen}
    return [
        EvalItem(
            item.instruction, item.input, item.family, item.output, "gold", True, (split, f"level_{item.difficulty}")
        )
        for split, size in sizes.items()
        for item in builtin.generate(split, size, config.seed)
    ]


def check_eval_set(config: Config) -> list[EvalItem]:
    """Read the instructions. A dry run downloads nothing, and says what it left out.

    Raises:
        ValueError: as `load_eval_items`.
    """
    if config.harness.dry_run and _to_download(config.eval_set):
        _say_once(f"eval_set={config.eval_set.name}: not checked, {config.eval_set.hub_id} is not in the cache yet")
        return []
    return load_eval_items(config.eval_set)


def _limited(items: list[EvalItem], limit: int | None) -> list[EvalItem]:
    """The first questions, each with all its turns."""
    first = [place for place, item in enumerate(items) if item.follows is None]
    return items if limit is None or limit >= len(first) else items[: first[limit]]


def _unique(items: Iterator[tuple[str, EvalItem]]) -> Iterator[EvalItem]:
    seen: dict[str, str] = {}
    for where, item in items:
        if not item.text.strip():
            raise ValueError(f"{where} is empty: {item.text[:20]!r}")
        if item.text in seen:
            raise ValueError(f"{where} repeats that of {seen[item.text]}: {item.text[:60]!r}")
        seen[item.text] = where
        yield item


def _file_items(config: EvalSetConfig) -> Iterator[tuple[str, EvalItem]]:
    files = [_required_path("eval_set", config.path)] if config.hub_id is None else hub_files(config)
    rows = chain.from_iterable(map(read_rows, files))
    if config.format == "alpaca_eval":
        yield from _alpaca_eval_items(rows, files[0].stem)
        return
    for where, item in read_format(config.format, rows, _answers(config.answers)):
        said = (text for exchange in item.history for text in exchange)
        for text in (item.instruction, item.reference, item.system, *said):
            _check_sound(text, where)
        yield f"{where}: the question", item


def _answers(path: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if path is None:
        return iter(())
    there = Path(path).expanduser()
    if not there.exists():
        raise ValueError(f"eval_set.answers={path}: no such file or folder")
    files = sorted(there.glob("*.jsonl")) if there.is_dir() else [there]
    if not files:
        raise ValueError(f"eval_set.answers={path}: a folder without .jsonl files")
    return chain.from_iterable(map(read_rows, files))


def _alpaca_eval_items(rows: Iterator[tuple[str, dict[str, Any]]], stem: str) -> Iterator[tuple[str, EvalItem]]:
    for where, row in rows:
        instruction, reference = _sound_text(row, "instruction", where), _sound_text(row, "output", where)
        further = _sound_text(row, "input", where) if row.get("input") is not None else ""
        family, generator = (
            text_field(row, key, where) if row.get(key) is not None else default
            for key, default in (("dataset", stem), ("generator", "reference"))
        )
        yield f"{where}: key 'instruction'", EvalItem(instruction, further, family, reference, generator)


def _sound_text(row: dict[str, Any], key: str, where: str) -> str:
    """A text that a tokenizer accepts: without NUL characters and unpaired surrogates."""
    text = text_field(row, key, where)
    _check_sound(text, f"{where}: key {key!r}")
    return text


def _check_sound(text: str, where: str) -> None:
    try:
        check_text(text, where)
    except RowProblem as problem:
        raise ValueError(f"{problem}; fix the file") from None


def _refuse_unread(group: str, name: str, **keys: Any) -> None:
    """Refuse keys that name a file or part of one: a generated set would silently ignore them."""
    given = [f"{group}.{key}={value}" for key, value in keys.items() if value is not None]
    if given:
        other = "dataset=local" if group == "dataset" else "eval_set=alpaca_eval, or eval_set.heldout and .unseen"
        raise ValueError(f"{given[0]}: {group}={name} is generated and does not read it; choose {other}")


def _required_path(group: str, path: str | None) -> Path:
    if path is None:
        raise ValueError(f"{group}.path: is missing; give the file as {group}.path=FILE")
    return resolve_path(path) if path.startswith("package:") else Path(path).expanduser()


def _to_download(config: HubSource) -> bool:
    if config.hub_id is None or is_offline():
        return False
    return not all(cached_file(config, name) for name in config.hub_files)


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
