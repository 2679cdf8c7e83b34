"""How a table is declared."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.study.comparable import BASELINE
from analysis.study.rows import RowKeys
from analysis.tables.needs import FINISHED_RUNS, Need
from harness.metrics.names import WIN_RATE


@dataclass(frozen=True)
class TableLayout:
    """One table: which settings make its rows, which metrics its columns, what is compared.

    rows: settings that make the rows: model, dataset, eval_set, noise, judge, or a key of config.yaml.
    spread: a setting with a group of columns for each of its values.
    metrics: names of metrics; optional: further ones, or patterns like probe/*, left out if no run has them.
    differences, relative: metrics to compare with the runs of noise=`baseline`, if shown: absolute, with p-values (Holm
        over the table), and in percent of the baseline.
    detectable: add the minimum detectable effect of each difference. verdicts: add what each decides. bootstrap: add
        the hierarchical bootstrap's interval of a difference in win rate.
    endings: count diverged and failed runs in separate columns.
    choose_alpha: an extra row per noise, with alpha chosen on one half of the instructions and the win rate taken on
    the
        other.
    published: tables of published.csv whose numbers are shown next to ours.
    needs: what the runs must have for the table to be shown by default, as in the report.
    by_name: the metrics were requested by name, so one that no run has is an error.
    """

    name: str
    title: str
    rows: tuple[str, ...] = ("noise", "alpha")
    spread: str | None = None
    metrics: tuple[str, ...] = (WIN_RATE,)
    optional: tuple[str, ...] = ()
    differences: tuple[str, ...] = (WIN_RATE,)
    relative: tuple[str, ...] = ()
    baseline: str = BASELINE
    detectable: bool = False
    verdicts: bool = False
    bootstrap: bool = False
    endings: bool = False
    choose_alpha: bool = False
    published: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    needs: Need = FINISHED_RUNS
    by_name: bool = False

    @property
    def keys(self) -> RowKeys:
        """The settings that define rows and groups of columns."""
        return RowKeys(self.rows, self.spread, self.choose_alpha)

    @property
    def shown(self) -> tuple[str, ...]:
        """Settings that the table tells apart."""
        return (*self.rows, self.spread) if self.spread else self.rows
