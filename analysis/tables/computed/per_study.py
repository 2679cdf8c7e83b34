"""One computed table for each set of runs that may be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from analysis.render.table import Table, Value
from analysis.sources.runs import Runs
from analysis.study.comparable import settings_of, split
from analysis.study.measures import Measures
from analysis.study.published import of_tables
from analysis.study.rows import RowKeys, TableRow, rows_of
from analysis.tables.notes import BY_PROXY, ratio_note

NOTHING = "these runs have nothing to compare"
_KEYS = RowKeys()

# Makes the rows of a table from the rows (noise, alpha) of one set of comparable runs.
RowsFor = Callable[[Measures, list[TableRow]], Iterator[tuple[list[str], list[Value]]]]


def per_study(runs: Runs, empty: Table, rows_for: RowsFor) -> list[Table]:
    """One table for each set of comparable runs; without rows if there is nothing to compare."""
    if runs.runs.empty:
        raise ValueError(f"no finished run for the table {empty.name}")
    measures, found = Measures(runs), []
    for part in split(settings_of(runs), _KEYS.rows):
        cells = rows_of(_KEYS, part, of_tables(()), measures)
        rows = list(rows_for(measures, cells))
        if rows:
            run_ids = [str(run_id) for run_id in part.settings.index[part.settings["status"] == "finished"]]
            proxy = f", {BY_PROXY}" if measures.is_proxy(run_ids) else ""
            notes = [*empty.notes, *filter(None, [ratio_note(measures, cells)])]
            found.append(replace(empty, title=f"{empty.title} ({part.title}){proxy}", rows=rows, notes=notes))
    blank: list[Value] = [""] * len(empty.columns)
    nothing = replace(empty, rows=[(["none"] * len(empty.labels), blank)], notes=[NOTHING])
    return found or [nothing]
