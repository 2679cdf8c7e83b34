"""How flat quality is in alpha, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.baseline import by_seed
from analysis.study.measures import Measures
from analysis.study.metrics import metric
from analysis.study.rows import Cell, TableRow
from analysis.tables.computed.per_study import per_study
from harness.metrics.names import WIN_RATE

_QUALITIES = (WIN_RATE, "eval/loss")


def flatness(runs: Runs) -> list[Table]:
    """For each noise and measure of quality: its best and worst alpha, and those not shown to be worse than the best.

    An alpha is worse if the 95% interval of its difference to the best, paired by seed (for win rates also by
    instruction), lies entirely on the worse side.

    Raises:
        ValueError: there is no finished run.
    """
    texts = ("measure", "alphas", "best alpha", "worst alpha", "not shown to be worse than the best")
    heads = [Column(header, is_text=True) for header in texts]
    note = (
        "on the seeds that all alphas of a noise have, by the 95% interval of the paired difference to the best,"
        " without a correction; the best is chosen on these very numbers, so that it looks better than it is and"
        " the list is rather too short than too long"
    )
    return per_study(runs, Table("flatness", "Flatness in alpha", ["noise"], heads, [], [note]), _flat_rows)


def _flat_rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    cells = [cell for row in rows if (cell := row.cell("")).by_seed and row.labels["alpha"]]
    for noise in dict.fromkeys(cell.noise for cell in cells):
        of_noise = {cell.labels["alpha"]: cell for cell in cells if cell.noise == noise}
        of_noise = _on_common_seeds(of_noise)
        for name in _QUALITIES if len(of_noise) > 1 else ():
            means = {alpha: float(measures.of_runs(name, cell.run_ids).mean()) for alpha, cell in of_noise.items()}
            if not any(np.isnan(mean) for mean in means.values()):
                yield [noise], [metric(name).header, ", ".join(of_noise), *_flat_cells(measures, name, of_noise, means)]


def _on_common_seeds(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The alphas on their common seeds: a seed that only some have would bias the comparison."""
    common = set.intersection(*(set(cell.by_seed) for cell in cells.values()))
    if not common:
        return {}
    kept = {
        alpha: {seed: cell.by_seed[seed] for seed in cell.by_seed if seed in common} for alpha, cell in cells.items()
    }
    return {alpha: replace(cells[alpha], by_seed=by_seed) for alpha, by_seed in kept.items()}


def _flat_cells(measures: Measures, name: str, cells: dict[str, Cell], means: dict[str, float]) -> tuple[str, str, str]:
    known = metric(name)
    sign = 1 if known.better == "higher" else -1
    ranked = sorted(means, key=lambda alpha: -sign * means[alpha])
    best, worst = (f"{alpha} ({means[alpha]:.{known.decimals}f})" for alpha in (ranked[0], ranked[-1]))
    worse = [alpha for alpha in ranked[1:] if _is_worse(measures, name, cells[alpha], cells[ranked[0]], sign)]
    return best, worst, ", ".join(alpha for alpha in cells if alpha not in worse)


def _is_worse(measures: Measures, name: str, cell: Cell, best: Cell, sign: int) -> bool:
    both = by_seed(cell, best)
    found = measures.difference(name, *both) if both else None
    if not isinstance(found, Estimate) or np.isnan(found.low):
        return False
    return found.high < 0 if sign > 0 else found.low > 0
