"""What a search has looked at: the numbers that chose among runs, and the half of the instructions that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.sources.runs import Runs
from analysis.study.metrics import ITEMS_IN_WORDS

# What the harness calls its final numbers of the half of the instructions that settings may be chosen on.
_SELECTION = "selection/"


def objectives_of(runs: Runs) -> list[str]:
    """The final numbers by which searches chose among these runs."""
    return sorted({found for run in runs.records if (found := _objective(run.config))})


def is_searched(runs: Runs) -> bool:
    """Whether a search chose by one half of the instructions, so that numbers are those of the other half."""
    return any(name.startswith(_SELECTION) for name in objectives_of(runs))


def search_note(runs: Runs) -> str:
    """What is left out, or not to be believed, where a search has looked at these runs; "" where none did."""
    objectives = objectives_of(runs)
    if not objectives:
        return ""
    said = f"a search chose among these runs by {', '.join(objectives)}"
    if is_searched(runs):
        return (
            f"{said}, numbers of one half of the instructions: {ITEMS_IN_WORDS} are those of the "
            "other half, other numbers those of all"
        )
    judged = [name for name in objectives if name.startswith("judge/")]
    return f"{said}; the best of them is biased upwards in {', '.join(judged)}, and its p is no p" if judged else said


def _objective(config: Mapping[str, Any]) -> str:
    return str((config.get("harness") or {}).get("objective") or "")
