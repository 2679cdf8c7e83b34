"""Verdicts of a study as it was planned: of its primary measures alone; what else was measured is exploratory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.study.comparable import BASELINE
from analysis.study.measures import Measures
from analysis.study.rows import TableRow
from analysis.study.verdicts import Margin
from analysis.tables.computed.per_study import per_study
from analysis.tables.computed.verdicts import HEADS, Difference, decided, differences_of

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


def planned_verdicts(runs: Runs, plan: Planned) -> list[Table]:
    """A table for each set of comparable runs: a row for each noise, alpha and measure.

    Raises:
        ValueError: there is no finished run, or a primary measure that no run has.
    """
    Measures(runs).check(list(plan.primary))
    heads = [Column("noise to embedding", decimals=3), *HEADS]
    title = f"Verdicts against {plan.baseline}, as planned"
    empty = Table("planned", title, ["noise", "alpha", "measure"], heads, [], _NOTES)
    return per_study(runs, empty, lambda measures, rows: _rows(measures, rows, plan))


def _rows(measures: Measures, rows: list[TableRow], plan: Planned) -> Iterator[tuple[list[str], list[Value]]]:
    primary = [each for name in plan.primary for each in _differences(measures, rows, name, plan)]
    for each, decision in zip(primary, decided(measures, primary, plan.primary), strict=True):
        found = decision.comparison
        # The interval that was tested, with the scatter that the metric's rows share.
        tested = replace(each, found=found.difference)
        margin = str(plan.primary[each.metric])
        yield _line(measures, tested, margin, decision.p, decision.p_equivalence, str(decision))
    for name in (each for each in plan.exploratory if each not in plan.primary and measures.has(each)):
        for each in _differences(measures, rows, name, plan):
            yield _line(measures, each, "", "", "", EXPLORATORY)


def _line(measures: Measures, difference: Difference, *rest: Value) -> tuple[list[str], list[Value]]:
    ratio = measures.of_runs("noise/ratio", difference.row.cell("").run_ids)
    shown: Value = "" if np.isnan(ratio).all() else float(np.nanmean(ratio))
    return difference.labels, [shown, *difference.cells(*rest)]


def _differences(measures: Measures, rows: list[TableRow], name: str, plan: Planned) -> Iterator[Difference]:
    for each in differences_of(measures, rows, name, plan.baseline):
        if not plan.compared or each.row.labels["noise"] in plan.compared:
            yield each
