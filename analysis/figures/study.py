"""The runs behind one figure: those that differ only in noise, alpha and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.figures.style import WIDTH, Look, looks
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.comparable import BASELINE, Comparable, settings_of, split
from analysis.study.measures import ITEMS, Measures
from analysis.study.metrics import ITEMS_IN_WORDS, metric
from analysis.study.published import of_tables
from analysis.study.rows import Cell, RowKeys, rows_of

_KEYS = RowKeys()
_LONG = 24  # characters of name and unit that have room on one line


@dataclass(frozen=True)
class Study:
    """Cells of one figure; part says what they share.

    looks: look of every noise of the source, so that all its figures agree. width: of a figure, in inches.
    """

    measures: Measures
    part: Comparable
    cells: list[Cell]
    looks: dict[str, Look]
    width: float = WIDTH

    @property
    def noises(self) -> list[str]:
        """Names, the baseline first."""
        return list(dict.fromkeys(cell.noise for cell in self.cells))

    @property
    def baseline(self) -> Cell | None:
        return next((cell for cell in self.cells if cell.noise == BASELINE and cell.run_ids), None)

    @property
    def size(self) -> int:
        """Finished runs."""
        return sum(len(cell.run_ids) for cell in self.cells)

    def series(self, noise: str) -> list[Cell]:
        """The noise's cells with a finished run and an alpha, ordered by alpha."""
        return [c for c in self.cells if c.noise == noise and c.alpha is not None and c.run_ids]

    @property
    def alphas(self) -> list[float]:
        return sorted({cell.alpha for cell in self.cells if cell.alpha is not None and cell.run_ids})

    def estimate(self, name: str, cell: Cell) -> Estimate | None:
        """Mean with interval; None if there is no number."""
        value = self.measures.estimate(name, cell.run_ids) if cell.run_ids else None
        return value if isinstance(value, Estimate) and not np.isnan(value.mean) else None

    def measured(self, names: Sequence[str]) -> list[str]:
        """The metrics that at least one cell has."""
        return [name for name in names if any(self.estimate(name, cell) for cell in self.cells)]

    @cached_property
    def chosen(self) -> list[Cell]:
        """One cell per noise: the alpha that wins most on the choosing half of instructions, or the middle one."""
        found = []
        for noise in self.noises:
            cells = [cell for cell in self.cells if cell.noise == noise and cell.run_ids]
            if cells:
                found.append(self._choose(cells))
        return found

    def _choose(self, cells: list[Cell]) -> Cell:
        by_alpha = {cell.alpha: cell for cell in cells if cell.alpha is not None}
        if len(by_alpha) < 2:
            return cells[0]
        choice = self.measures.choose_alpha({alpha: cell.run_ids for alpha, cell in by_alpha.items()})
        return by_alpha[choice.alpha] if choice else cells[len(cells) // 2]

    # What captions say

    @property
    def conditions(self) -> str:
        """What all runs share, as a sentence, and whether their win rate is a proxy's."""
        shared = f"{self.part.title}. " if self.part.title else ""
        if not self.measures.is_proxy([run_id for cell in self.cells for run_id in cell.run_ids]):
            return shared
        return f"{shared}Win rates are a proxy's: closeness to one reference, not quality. "

    @property
    def lost(self) -> str:
        """The runs that are not in any number, as a sentence."""
        names = [f"{cell.name}: {cell.lost}" for cell in self.cells if cell.lost]
        return f" Diverged or failed, in no number: {'; '.join(names)}." if names else ""


def studies(runs: Runs, width: float = WIDTH) -> Iterator[Study]:
    """One study for each combination of settings other than noise, alpha and seed."""
    measures, settings = Measures(runs), settings_of(runs)
    styles = looks(settings["noise"])
    for part in split(settings, _KEYS.rows):
        yield Study(measures, part, list(_cells(part, measures)), styles, width)


def _cells(part: Comparable, measures: Measures) -> Iterator[Cell]:
    for row in rows_of(_KEYS, part, of_tables(()), measures):
        yield row.cell("")


def counted(study: Study, cells: Sequence[Cell], is_judged: bool = True) -> str:
    """How many runs, and instructions of a win rate, are behind a point: "n = 3 runs per point, ..."."""
    sizes = sorted({len(cell.run_ids) for cell in cells if cell.run_ids})
    if not sizes:
        return "n = 0 runs"
    span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    said = f"n = {span} run{'s' if span != '1' else ''} per point"
    wins = [len(study.measures.wins(cell.run_ids)) for cell in cells if cell.run_ids and is_judged]
    items = sorted({count for count in wins if count})
    if items:
        said += f", {items[0] if len(items) == 1 else f'{items[0]} to {items[-1]}'} instructions each"
    return said


def intervals(cells: Sequence[Cell], names: Sequence[str], probed: bool = False) -> str:
    """What the bands and whiskers of these metrics are, in words that are true for these cells.

    probed: some whisker is a probe's own, over the examples that it measured in a single run.
    """
    singles, by_item = [len(cell.run_ids) < 2 for cell in cells], any(name in ITEMS for name in names)
    of_one = " and ".join(["the instructions"] * by_item + ["the probed examples"] * probed)
    if all(singles):
        bare = [name for name in names if name not in ITEMS and not (probed and name.startswith("probe/"))]
        only = ", other metrics have none" if bare else ""
        alone = f"95% intervals over {of_one} of one run (dotted: they say nothing of other seeds){only}"
        return alone if of_one else "none, one run is no sample"
    dotted = f"; dotted: over {of_one} of one run" if any(singles) and of_one else ""
    counted = f", for {ITEMS_IN_WORDS} over seeds and instructions" if by_item else ""
    return f"95% t intervals over seeds{counted}{dotted}"


def axis_label(name: str) -> str:
    """The metric's name with its unit, for an axis; a long one takes two lines."""
    known = metric(name)
    if not known.unit:
        return known.header
    return f"{known.header}{chr(10) if len(known.header + known.unit) > _LONG else ' '}({known.unit})"
