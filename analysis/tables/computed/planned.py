"""Verdicts of a study as it was planned: of its primary measures alone; what else was measured is exploratory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import stats
from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.baseline import baseline_pairs
from analysis.study.comparable import BASELINE
from analysis.study.measures import Measures
from analysis.study.metrics import metric, unit_of_difference
from analysis.study.rows import TableRow
from analysis.study.verdicts import Comparison, Decision, Margin, decide
from analysis.tables.computed.per_study import per_study

EXPLORATORY = "exploratory"
_NOTES = [
    "helps, hurts: p < 0.05 after Holm's correction over the planned comparisons; no effect beyond the margin: two"
    " one-sided tests at 5%, corrected likewise; undecided: neither, with the seeds that such scatter would need (80%"
    " power)",
    f"{EXPLORATORY}: not named primary by the plan, so no verdict, and its interval is not corrected",
    "differences paired by seed and, where there are numbers for each, by instruction in its family or source; ± half"
    " of a 95% t interval; noise to embedding: norm of a document's noise over that of its embeddings",
]


@dataclass(frozen=True)
class Planned:
    """What a plan fixes of its verdicts.

    Attributes:
        primary: margin of each primary measure.
        baseline: noise that the others are compared with.
        compared: noises that are; all where empty.
        exploratory: further measures, shown without a verdict.
    """

    primary: Mapping[str, Margin]
    baseline: str = BASELINE
    compared: tuple[str, ...] = ()
    exploratory: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    row: TableRow
    metric: str
    difference: Estimate
    control: list[str]


def planned_verdicts(runs: Runs, plan: Planned) -> list[Table]:
    """A table for each set of comparable runs: a row for each noise, alpha and measure.

    Raises:
        ValueError: there is no finished run, or a primary measure that no run has.
    """
    Measures(runs).check(list(plan.primary))
    heads = [
        Column("noise to embedding", decimals=3),
        Column("seeds"),
        Column("difference", decimals=None, signed=True),
        Column("unit", is_text=True),
        Column("margin", is_text=True),
        Column("p (Holm)", smallest=0.001),
        Column("p of equivalence", smallest=0.001),
        Column("verdict", is_text=True),
    ]
    title = f"Verdicts against {plan.baseline}, as planned"
    empty = Table("planned", title, ["noise", "alpha", "measure"], heads, [], _NOTES)
    return per_study(runs, empty, lambda measures, rows: _rows(measures, rows, plan))


def decisions(measures: Measures, rows: list[TableRow], plan: Planned) -> list[tuple[TableRow, Decision]]:
    """The verdict of every planned comparison of one set of comparable runs."""
    tests = [each for name in plan.primary for each in _differences(measures, rows, name, plan)]
    tested = stats.with_shared_scatter([test.difference for test in tests], [test.metric for test in tests])
    comparisons = [
        Comparison(test.metric, used, float(measures.of_runs(test.metric, test.control).mean()), margin)
        for test, used in zip(tests, tested, strict=True)
        for margin in [plan.primary[test.metric]]
    ]
    return [(test.row, decision) for test, decision in zip(tests, decide(comparisons), strict=True)]


def _rows(measures: Measures, rows: list[TableRow], plan: Planned) -> Iterator[tuple[list[str], list[Value]]]:
    for row, decision in decisions(measures, rows, plan):
        found = decision.comparison
        rest: list[Value] = [str(found.margin), decision.p, decision.p_equivalence, str(decision)]
        yield _line(measures, row, found.metric, found.difference, rest)
    for name in (each for each in plan.exploratory if each not in plan.primary and measures.has(each)):
        for test in _differences(measures, rows, name, plan):
            yield _line(measures, test.row, name, test.difference, ["", "", "", EXPLORATORY])


def _line(
    measures: Measures, row: TableRow, name: str, difference: Estimate, rest: Sequence[Value]
) -> tuple[list[str], list[Value]]:
    ratio = measures.of_runs("noise/ratio", row.cell("").run_ids)
    shown: Value = "" if np.isnan(ratio).all() else float(np.nanmean(ratio))
    numbers: list[Value] = [shown, f"{difference.runs}", difference, unit_of_difference(name), *rest]
    return [*row.labels.values(), metric(name).header], numbers


def _differences(measures: Measures, rows: list[TableRow], name: str, plan: Planned) -> Iterator[_Found]:
    for row in rows:
        if plan.compared and row.labels["noise"] not in plan.compared:
            continue
        both = baseline_pairs(rows, row, "", plan.baseline)
        found = measures.difference(name, *both) if both else None
        if both and isinstance(found, Estimate) and not np.isnan(found.mean):
            yield _Found(row, name, found, both.control)
