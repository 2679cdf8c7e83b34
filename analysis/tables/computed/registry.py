"""Computed tables by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.render.table import Table
from analysis.sources.runs import Runs
from analysis.tables.computed.alpha_flatness import flatness
from analysis.tables.computed.checklist import checklist
from analysis.tables.computed.claims import claims
from analysis.tables.computed.gradient_noise import gradient_noise
from analysis.tables.computed.length_gain import length_gain
from analysis.tables.computed.verdicts import verdicts
from analysis.tables.needs import COMPARED, FINISHED_RUNS, SEVERAL_SETTINGS, Need, metrics_like


@dataclass(frozen=True)
class ComputedTable:
    """A table by its title, what makes it, and what it needs."""

    title: str
    make: Callable[[Runs], list[Table]]
    needs: Need = FINISHED_RUNS


COMPUTED = {
    "verdicts": ComputedTable("Verdicts against no noise", verdicts, COMPARED),
    "claims": ComputedTable("The papers' claims and these runs", claims, SEVERAL_SETTINGS),
    "checklist": ComputedTable("The papers' numbers and these runs", checklist),
    "flatness": ComputedTable("Flatness in alpha", flatness, SEVERAL_SETTINGS),
    "gradient_noise": ComputedTable(
        "Gradient of a batch under noise", gradient_noise, metrics_like("probe/gradient/*")
    ),
    "length_gain": ComputedTable("How much of the gain is length?", length_gain, COMPARED),
}
