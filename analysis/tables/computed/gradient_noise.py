"""What noise does to the gradient of a batch: the probe `gradient_noise`, before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis import stats
from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.gradient import MODELS, PREFIX, strengths
from analysis.study.measures import Measures
from analysis.study.rows import TableRow
from analysis.tables.computed.per_study import per_study

# Measure, header, unit and decimals of each column; shares are printed in percent.
_COLUMNS = (
    ("odd_share", "odd part / sampling noise", "%", 1),
    ("even_noise_share", "scatter of the even part / sampling noise", "%", 1),
    ("even_share", "even part / squared gradient", "%", 1),
    ("even_along_share", "even part along the gradient", "%", 1),
    ("loss_rise", "loss under noise - without", "nats", 3),
)


def gradient_noise(runs: Runs) -> list[Table]:
    """A table per set of comparable runs: a row for each noise trained with, model and strength.

    Raises:
        ValueError: there is no finished run.
    """
    heads = [Column("runs"), *(Column(header, unit, decimals) for _, header, unit, decimals in _COLUMNS)]
    notes = [
        "odd part: first-order noise of the gradient, which the symmetric pair cancels and two draws halve; sampling"
        " noise: variance of the gradient between batches of as many documents; both fall as 1 / batch size",
        "even part: the curvature term, which one-sided noise, two draws and the pair all have; along the gradient: its"
        " product with the gradient of other documents over that gradient's square, -100% where noise undoes it",
        "of one run: [95% bootstrap interval over pairs of batches]; of several ± half of a 95% t interval over seeds",
    ]
    labels = ["noise", "alpha", "model", "strength"]
    empty = Table("gradient_noise", "Gradient of a batch under noise", labels, heads, [], notes)
    return per_study(runs, empty, _rows)


def _rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    for row in rows:
        run_ids = row.cell("").run_ids
        for which in MODELS:
            for strength in strengths(measures, run_ids, which):
                values = [
                    _value(measures, run_ids, f"{PREFIX}/{which}/{name}/{strength}", 100.0 if unit == "%" else 1.0)
                    for name, _, unit, _ in _COLUMNS
                ]
                yield [*row.labels.values(), which, strength], [f"{len(run_ids)}", *values]


def _value(measures: Measures, run_ids: list[str], name: str, factor: float) -> Value:
    """Over the runs; of one with the interval that it recorded."""
    found = factor * measures.of_runs(name, run_ids)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan")
    if len(found) > 1:
        return stats.mean_over_seeds(found)
    low, high = (factor * float(measures.of_runs(f"{name}/{side}", run_ids)[0]) for side in ("low", "high"))
    return Estimate(float(found[0]), float("nan"), low, high, 1)
