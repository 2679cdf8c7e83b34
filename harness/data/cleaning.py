"""What happens to unsuitable rows: each rule is a key of `dataset.clean`, and its rows are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from harness.config import CleaningConfig, DatasetConfig
from harness.data.examples import Example
from harness.data.rows import RowProblem, Rule, to_example
from harness.data.schemas import Schema, expect_schema


@dataclass
class Report:
    """Where examples came from, and what cleaning did to them."""

    source: str
    schema: Schema | None = None
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by rule
    changed: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)  # number of rows by key that is present but not used

    def describe(self, kept: int) -> str:
        """One line for the log."""
        dropped = [f"{count} dropped by clean.{rule}" for rule, count in sorted(self.dropped.items())]
        changed = [f"{count} {what}" for what, count in sorted(self.changed.items()) if count]
        parts = [f"{self.source}: {self.schema or 'generated'}, {self.rows} rows", *dropped, *changed, f"{kept} left"]
        unused = [f"{key} ({count} rows)" for key, count in sorted(self.unused.items())]
        return "; ".join([*parts, *(["keys not used: " + ", ".join(unused)] if unused else [])])


def clean(rows: Iterable[tuple[str, dict[str, Any]]], config: DatasetConfig, report: Report) -> Iterator[Example]:
    """Turn rows into examples and apply the rules, counting in `report`.

    Raises:
        ValueError: a row that no rule lets pass, naming file, row, key and what to do.
    """
    seen: dict[tuple[str, Hashable], str] = {}
    for where, row in rows:
        report.rows += 1
        report.schema = expect_schema(row, where, report.schema)
        try:
            example = _shorten(_convert(row, where, config.clean, report), config, report)
            _check_empty(example, config.clean)
            _check_seen(example, row.get("id"), config.clean, seen)
        except RowProblem as problem:
            policy = getattr(config.clean, problem.rule)
            if policy == "error":
                raise ValueError(f"{problem}; {_advice(problem.rule)}") from None
            report.dropped[problem.rule] += 1
            continue
        if example.learnt:
            yield example
        else:
            report.changed["left out: weight 0 on every answer"] += 1


def _convert(row: dict[str, Any], where: str, rules: CleaningConfig, report: Report) -> Example:
    assert report.schema is not None
    example, remarks = to_example(row, where, report.schema, rules.roles == "repair")
    report.changed["repaired by clean.roles"] += remarks.repaired
    report.unused.update(remarks.unused)
    return example


def _shorten(example: Example, config: DatasetConfig, report: Report) -> Example:
    """The part of a conversation that the settings ask for."""
    if example.more and config.turns == "first":
        report.changed["conversations cut to their first exchange"] += 1
        example = replace(example, more=(), unlearnt=tuple(place for place in example.unlearnt if place == 0))
    if example.system and config.clean.system == "drop":
        report.changed["system messages left out"] += 1
        example = replace(example, system="")
    if example.unlearnt and example.learnt:
        report.changed["with answers of weight 0, which are not learnt"] += 1
    if config.prompt in ("alpaca", "none") and (example.more or example.system):
        what, key = ("several exchanges", "turns=first") if example.more else ("a system message", "clean.system=drop")
        raise ValueError(
            f"{example.where}: {what}, for which dataset.prompt={config.prompt} has no place; set dataset.{key}, "
            "or dataset.prompt to vicuna_v1.1, chatml or chat_template"
        )
    return example


def _check_empty(example: Example, rules: CleaningConfig) -> None:
    if rules.empty == "keep":
        return
    for number, (user, assistant) in enumerate(example.exchanges, start=1):
        for what, text in (("instruction", user), ("answer", assistant)):
            if not text or text.isspace():
                place = f" of exchange {number}" if example.more else ""
                raise RowProblem("empty", f"{example.where}: the {what}{place} is empty: {text[:20]!r}")


def _check_seen(example: Example, identity: Any, rules: CleaningConfig, seen: dict[tuple[str, Hashable], str]) -> None:
    keys: dict[Rule, Hashable] = {"duplicate_ids": str(identity)} if identity is not None else {}
    keys["duplicates"] = example.content
    for rule, key in keys.items():
        if getattr(rules, rule) == "keep":
            continue
        earlier = seen.setdefault((rule, key), example.where)
        if earlier != example.where:
            what = f"id {identity!r}" if rule == "duplicate_ids" else "the text"
            raise RowProblem(rule, f"{example.where}: {what} repeats that of {earlier}")


def _advice(rule: Rule) -> str:
    allowed = [value for value in get_args(CleaningConfig.model_fields[rule].annotation) if value != "error"]
    return f"fix the file, or set dataset.clean.{rule}={' or '.join(allowed)}"
