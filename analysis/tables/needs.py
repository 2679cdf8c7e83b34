"""What a table needs in order to be useful: in words, and as a test of the runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from analysis.sources.runs import Runs
from analysis.study.comparable import BASELINE


@dataclass(frozen=True)
class Need:
    """words: such as "runs of two noises". is_met: whether the finished runs meet it."""

    words: str
    is_met: Callable[[Runs], bool]


def _noises(runs: Runs) -> set[str]:
    return set(runs.runs["noise"].dropna())


def compared_with(baseline: str) -> Need:
    """Runs of the baseline, and of another noise."""
    return Need(f"runs of {baseline} and of another noise", lambda runs: {baseline} < _noises(runs))


def metrics_like(pattern: str) -> Need:
    """A metric whose name matches the pattern."""
    return Need(f"metrics {pattern}", lambda runs: any(fnmatchcase(str(column), pattern) for column in runs.runs))


FINISHED_RUNS = Need("finished runs", lambda runs: not runs.runs.empty)
SEVERAL_NOISES = Need("runs of two noises", lambda runs: len(_noises(runs)) > 1)
SEVERAL_SETTINGS = Need(
    "runs of two noises or two alphas", lambda runs: len(_noises(runs)) > 1 or runs.runs["alpha"].nunique() > 1
)
COMPARED = compared_with(BASELINE)
