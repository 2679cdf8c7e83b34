"""What a table says below itself: what the intervals count, what could have been found, where numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis import stats
from analysis.columns import metric
from analysis.layout import Layout
from analysis.rows import CHOSEN, Row
from analysis.stats import Estimate
from analysis.tables import Value


def interval_note(rows: Iterable[tuple[list[str], list[Value]]]) -> str:
    """What the intervals are over; empty if there is none."""
    found = [value for _, values in rows for value in values if isinstance(value, Estimate)]
    known = [value for value in found if not np.isnan(value.low)]
    if not known:
        return ""
    counted = sorted({value.instructions for value in known if value.instructions})
    if not counted:
        return "± half of a 95% t interval over seeds"
    items = _span(counted[0], counted[-1], 0)
    if all(value.runs == 1 for value in known):
        return f"± half of a 95% t interval over {items} instructions of one run"
    return f"± half of a 95% t interval over seeds, for win rates over seeds and {items} instructions"


def power_notes(compared: Mapping[tuple[str, str], Sequence[Value]]) -> list[str]:
    """For each compared metric the difference that would have been found: what a null result means."""
    notes = []
    for name in dict.fromkeys(name for name, _ in compared):
        values = [value for (other, _), column in compared.items() if other == name for value in column]
        found = [stats.detectable(value) for value in values if isinstance(value, Estimate)]
        sizes = [size for size in found if not np.isnan(size)]
        if sizes:
            known = metric(name)
            unit = "points" if known.unit == "%" else known.unit
            span = _span(min(sizes), max(sizes), known.decimals or 0)
            notes.append(f"a true difference in {known.header} is found with 80% power from {span} {unit} on")
    return notes


def choice_note(rows: Sequence[Row]) -> str:
    """The alphas that were chosen, beside the papers' way of choosing on all instructions."""
    said = []
    for row in rows:
        for group, cell in row.cells.items():
            if cell.choice:
                names = [label for label in (*row.labels.values(), group) if label not in (CHOSEN, "")]
                on_test = f"on all instructions: {cell.choice.on_test:g}, {cell.choice.on_test_mean:.1f}%"
                said.append(f"{' '.join(names)}: {cell.choice.alpha:g} ({on_test})")
    if not said:
        return ""
    return "chosen: alpha by one half of the instructions, win rate by the other; " + "; ".join(said)


def published_note(layout: Layout, published: pd.DataFrame) -> str:
    """Where the published numbers come from; judge and model, because they are seldom ours."""
    said = []
    for record in published.to_dict("records"):
        model = f", {record['model']}" if record["model"] and "model" not in layout.rows else ""
        judge = f", judged by {record['judge']}" if record["judge"] else ""
        said.append(f"{record['source']}{model}{judge}")
    return f"published: {'; '.join(dict.fromkeys(said))}" if said else ""


def _span(low: float, high: float, decimals: int) -> str:
    first, last = f"{low:.{decimals}f}", f"{high:.{decimals}f}"
    return first if first == last else f"{first} to {last}"
