"""Tables that are computed and not laid out, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.render.table import Table
from analysis.sources.runs import Runs
from analysis.tables.computed.alpha_and_length import flatness, length_gain
from analysis.tables.computed.checklist import checklist
from analysis.tables.computed.claims import claims


@dataclass(frozen=True)
class ComputedTable:
    """A table by its title, and what makes it."""

    title: str
    make: Callable[[Runs], list[Table]]


COMPUTED = {
    "claims": ComputedTable("The papers' claims and these runs", claims),
    "checklist": ComputedTable("The papers' numbers and these runs", checklist),
    "flatness": ComputedTable("How flat is it in alpha?", flatness),
    "length_gain": ComputedTable("How much of the gain is length?", length_gain),
}
