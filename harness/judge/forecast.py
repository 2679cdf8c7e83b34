"""What judging a whole command will cost, held against the judge's limits before the first run starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config import Config, JudgeConfig
from harness.data import load_eval_items
from harness.judge.ask import questions
from harness.judge.base import Comparison, Judge
from harness.judge.judges.registry import load_judge
from harness.judge.store import VerdictStore, store_path


def check_budgets(configs: Sequence[Config]) -> None:
    """Refuse limits that do not cover the verdicts on all answers that these runs have yet to give.

    Those answers are not known; the references stand in their place, so what is said of money is an estimate, and the
    stage `judge` holds each run against the limits again.

    Raises:
        ValueError: judge.max_calls or judge.max_usd is too small, or a priced judge has no limit.
    """
    for settings, store, runs in _alike(configs):
        judge = load_judge(settings, False, Path("."))
        if not judge.free:
            asked = [question for run in runs for question in _expected(judge, run)]
            judge.check_budget(asked, *_spent(judge, store))


def _alike(configs: Sequence[Config]) -> list[tuple[JudgeConfig, Path, list[Config]]]:
    """Runs that share a judge and a verdict store."""
    groups: list[tuple[JudgeConfig, Path, list[Config]]] = []
    for config in configs:
        key = (config.judge, store_path(config))
        runs = next((runs for *shared, runs in groups if tuple(shared) == key), None)
        if runs is None:
            runs = []
            groups.append((*key, runs))
        runs.append(config)
    return groups


def _expected(judge: Judge, config: Config) -> Iterator[Comparison]:
    for item in load_eval_items(config.eval_set):
        # The blank keeps the two apart: identical answers would draw without a call.
        yield from questions(judge, Comparison(item.text, item.reference, f"{item.reference} ", gold=item.reference))


def _spent(judge: Judge, path: Path) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    with VerdictStore(path) as store:
        return store.spent(judge.identity)
