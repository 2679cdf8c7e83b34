"""What each noise does to each primary measure: helps, hurts, no effect beyond a margin, or undecided."""

from __future__ import annotations

from collections.abc import Iterator
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
from analysis.study.verdicts import Comparison, decide
from analysis.tables.computed.per_study import per_study
from harness.metrics.names import ACCURACY, EVAL_LOSS, LENGTH, WIN_RATE

_MEASURES = (ACCURACY, WIN_RATE, EVAL_LOSS, LENGTH)


@dataclass(frozen=True)
class _Test:
    row: TableRow
    metric: str
    found: Estimate
    control: list[str]


def verdicts(runs: Runs) -> list[Table]:
    """A table per set of comparable runs: a row for each noise, alpha and measure, against no noise.

    Measures: accuracy, or the win rate if nothing marks the answers as right or wrong; eval loss; length.

    Raises:
        ValueError: there is no finished run.
    """
    heads = [
        Column("seeds"),
        Column("difference", decimals=None, signed=True),
        Column("unit", is_text=True),
        Column("margin", is_text=True),
        Column("p (Holm)", smallest=0.001),
        Column("p of equivalence", smallest=0.001),
        Column("verdict", is_text=True),
    ]
    notes = [
        "helps, hurts: p < 0.05 after Holm's correction over the table; no effect beyond the margin: two one-sided"
        " tests at 5%, corrected likewise; undecided: neither, with the seeds that such scatter would need (80% power)",
        "differences to no noise, paired by seed and, where there are numbers for each, by instruction; ± half of a 95%"
        " t interval",
    ]
    empty = Table("verdicts", "Verdicts against no noise", ["noise", "alpha", "measure"], heads, [], notes)
    return per_study(runs, empty, _rows)


def _rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    tests = list(_tests(measures, rows))
    tested = stats.with_shared_scatter([test.found for test in tests], [test.metric for test in tests])
    means = [float(measures.of_runs(test.metric, test.control).mean()) for test in tests]
    comparisons = [Comparison(t.metric, found, mean) for t, found, mean in zip(tests, tested, means, strict=True)]
    for test, decision in zip(tests, decide(comparisons), strict=True):
        margin = decision.comparison.margin
        numbers: list[Value] = [f"{test.found.runs}", test.found, unit_of_difference(test.metric), str(margin or "")]
        numbers += [decision.p, decision.p_equivalence, str(decision)]
        yield [*test.row.labels.values(), metric(test.metric).header], numbers


def _tests(measures: Measures, rows: list[TableRow]) -> Iterator[_Test]:
    every = [run_id for row in rows for run_id in row.cell("").run_ids]
    marked = bool(every) and not measures.items(ACCURACY, every[:1]).empty
    for name in (name for name in _MEASURES if name != (WIN_RATE if marked else ACCURACY)):
        for row in rows:
            both = baseline_pairs(rows, row, "", BASELINE)
            found = measures.difference(name, *both) if both else None
            if both and isinstance(found, Estimate) and not np.isnan(found.mean):
                yield _Test(row, name, found, both.control)
