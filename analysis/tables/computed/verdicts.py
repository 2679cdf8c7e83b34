"""What each noise does to each primary measure: helps, hurts, no effect beyond a margin, or undecided."""

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
from harness.metrics.names import ACCURACY, EVAL_LOSS, LENGTH, WIN_RATE

_MEASURES = (ACCURACY, WIN_RATE, EVAL_LOSS, LENGTH)


HEADS = [
    Column("seeds"),
    Column("difference", decimals=None, signed=True),
    Column("unit", is_text=True),
    Column("margin", is_text=True),
    Column("p (Holm)", smallest=0.001),
    Column("p of equivalence", smallest=0.001),
    Column("verdict", is_text=True),
]


@dataclass(frozen=True)
class Difference:
    """What a row's runs differ by from the baseline's in one metric; `control`: the baseline's run_ids."""

    row: TableRow
    metric: str
    found: Estimate
    control: list[str]

    def cells(self, *rest: Value) -> list[Value]:
        """Seeds, difference and unit, then `rest`."""
        return [f"{self.found.runs}", self.found, unit_of_difference(self.metric), *rest]

    @property
    def labels(self) -> list[str]:
        """The row's own, and the metric's heading."""
        return [*self.row.labels.values(), metric(self.metric).header]


def verdicts(runs: Runs) -> list[Table]:
    """A table per set of comparable runs: a row for each noise, alpha and measure, against no noise.

    Measures: accuracy, or the win rate if nothing marks the answers as right or wrong; eval loss; length.

    Raises:
        ValueError: there is no finished run.
    """
    notes = [
        "helps, hurts: p < 0.05 after Holm's correction over the table; no effect beyond the margin: two one-sided"
        " tests at 5%, corrected likewise; undecided: neither, with the seeds that such scatter would need (80% power)",
        "differences to no noise, paired by seed and, where there are numbers for each, by instruction; ± half of a 95%"
        " t interval",
    ]
    empty = Table("verdicts", "Verdicts against no noise", ["noise", "alpha", "measure"], HEADS, [], notes)
    return per_study(runs, empty, _rows)


def differences_of(
    measures: Measures, rows: list[TableRow], name: str, baseline: str = BASELINE
) -> Iterator[Difference]:
    """The measured differences in one metric of the rows that have a baseline."""
    for row in rows:
        both = baseline_pairs(rows, row, "", baseline)
        found = measures.difference(name, *both) if both else None
        if both and isinstance(found, Estimate) and not np.isnan(found.mean):
            yield Difference(row, name, found, both.control)


def decided(
    measures: Measures, differences: Sequence[Difference], stated: Mapping[str, Margin] | None = None
) -> list[Decision]:
    """A verdict for each difference of a table, with the scatter that the rows of a metric share.

    Args:
        stated: margins of metrics that have none fixed (`analysis.study.verdicts.MARGINS`).
    """
    metrics = [each.metric for each in differences]
    tested = stats.with_shared_scatter([each.found for each in differences], metrics)
    means = [float(measures.of_runs(each.metric, each.control).mean()) for each in differences]
    margins = [(stated or {}).get(name) for name in metrics]
    return decide([Comparison(*each) for each in zip(metrics, tested, means, margins, strict=True)])


def _rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    every = [run_id for row in rows for run_id in row.cell("").run_ids]
    marked = bool(every) and not measures.items(ACCURACY, every[:1]).empty
    names = [name for name in _MEASURES if name != (WIN_RATE if marked else ACCURACY)]
    differences = [each for name in names for each in differences_of(measures, rows, name)]
    for each, decision in zip(differences, decided(measures, differences), strict=True):
        margin = str(decision.comparison.margin or "")
        yield each.labels, each.cells(margin, decision.p, decision.p_equivalence, str(decision))
