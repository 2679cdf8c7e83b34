"""How much of a gain in win rate comes with longer answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from analysis import stats
from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Array
from analysis.study.baseline import by_seed
from analysis.study.comparable import BASELINE
from analysis.study.measures import Measures
from analysis.study.rows import EMPTY, TableRow
from analysis.tables.computed.per_study import per_study
from harness.metrics.names import LENGTH

_CLASSES = ("shorter", "similar", "longer")


def length_gain(runs: Runs) -> list[Table]:
    """For each noise and alpha the difference in win rate to no noise, split into length and the rest.

    Answers are shorter than, similar to or longer than the reference (as in the table length_bias). What moves
    between these classes alone would have changed is "by length", the change within them "at equal length"; each is
    weighted with the mean of both runs, so that the two add up (Kitagawa's decomposition). Runs are paired by seed.

    Raises:
        ValueError: there is no finished run.
    """
    heads = [
        Column("runs"),
        Column("length - none", "characters", 1, signed=True),
        Column("win rate - none", "points", 1, signed=True),
        Column("of it by length", "points", 1, signed=True),
        Column("of it at equal length", "points", 1, signed=True),
    ]
    notes = [
        "by length: what the move between answers shorter than, similar to and longer than the reference would change"
        " by itself; at equal length: the change within these three classes, which are coarse. It proves no cause",
        "± half of a 95% t interval over seeds",
    ]
    title = "How much of the gain is length?"
    return per_study(runs, Table("length_gain", title, ["noise", "alpha"], heads, [], notes), _gain_rows)


def _gain_rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    base = next((row.cell("") for row in rows if row.labels["noise"] == BASELINE), EMPTY)
    for row in (row for row in rows if row.labels["noise"] != BASELINE):
        both = by_seed(row.cell(""), base)
        parts = _parts(measures, *both) if both else None
        if both and parts is not None:
            length = measures.difference(LENGTH, *both)
            gains = [stats.mean_over_seeds(values_S) for values_S in (parts[0] + parts[1], *parts)]
            yield list(row.labels.values()), [f"{len(both.treatment)}", length, *gains]


def _parts(measures: Measures, treatment: Sequence[str], control: Sequence[str]) -> tuple[Array, Array] | None:
    """The difference in win rate of each seed (S,), in points: by length and at equal length; None without verdicts."""
    share, rate = (_by_class(measures, f"length/{what}", treatment) for what in ("share", "win_rate"))
    base_share, base_rate = (_by_class(measures, f"length/{what}", control) for what in ("share", "win_rate"))
    if np.isnan(share).any() or np.isnan(base_share).any():
        return None
    # If one of the two has no answer in a class, the other's rate is used for both, so that the move counts as length.
    rate, base_rate = np.where(np.isnan(rate), base_rate, rate), np.where(np.isnan(base_rate), rate, base_rate)
    rate, base_rate = np.nan_to_num(rate), np.nan_to_num(base_rate)
    by_length = ((share - base_share) / 100 * (rate + base_rate) / 2).sum(axis=0)
    equal_length = ((share + base_share) / 200 * (rate - base_rate)).sum(axis=0)
    return by_length, equal_length


def _by_class(measures: Measures, name: str, run_ids: Sequence[str]) -> Array:
    """A derived metric of each class of lengths (3, S)."""
    return np.array([measures.of_runs(f"{name}_{each}", run_ids) for each in _CLASSES])
