"""What every metric is called, on disk, in W&B and in tables alike; docs/tracking.md lists them all with their units.

Where HF's Trainer logs the same thing, the name is the one under which its runs have it in W&B, so that charts line up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

TRAIN_LOSS, GRAD_NORM, LEARNING_RATE = "train/loss", "train/grad_norm", "train/learning_rate"
EPOCH, GLOBAL_STEP = "train/epoch", "train/global_step"
EVAL_LOSS = "eval/loss"
WIN_RATE, CONTROLLED, DISCRETE = "judge/win_rate", "judge/length_controlled_winrate", "judge/discrete_win_rate"
ACCURACY, PARTIAL_CREDIT = "judge/accuracy", "judge/partial_credit"
LENGTH = "generate/characters"

# The final numbers that a list of runs shows: quality, length, loss, cost, stability. All others are in a table.
SUMMARY = (
    *(WIN_RATE, "judge/standard_error", CONTROLLED, "judge/lc_standard_error", DISCRETE),
    *(ACCURACY, f"{ACCURACY}/heldout", f"{ACCURACY}/unseen", PARTIAL_CREDIT, "judge/n_total", "judge/unparsed"),
    *("selection/accuracy", "selection/win_rate"),
    *(LENGTH, "generate/stopped_percent", "generate/empty_percent", "text/repetition_2_paper", "text/log_diversity"),
    *(EVAL_LOSS, "probe/gap", "probe/trace", "probe/top_eigenvalue", "noise/norm", "noise/ratio"),
    *("train/documents", "train/tokens", "train/flops", "train/seconds", "train/tokens_per_second"),
    *("train/peak_memory_gb", "generate/seconds", "judge/seconds"),
    *("stability/clipped_percent", "stability/loss_spikes", "stability/diverged"),
)
# What the history alone gives a list of runs, and which extreme of it beside the last.
EXTREMES = {TRAIN_LOSS: "min", GRAD_NORM: "max"}

# Names of earlier versions, in logs and tables that are read still.
RENAMED = {"heldout/loss": EVAL_LOSS, "train/lr": LEARNING_RATE}
# The same of their headers in tables.
RENAMED_HEADERS = {"held-out loss": "eval loss"}


def current(name: str) -> str:
    """Today's name of a metric."""
    return RENAMED.get(name, name)


def current_header(header: str) -> str:
    """Today's header of a table's column, with whatever stands around the metric: "held-out loss (nats) low"."""
    for old, new in RENAMED_HEADERS.items():
        header = header.replace(old, new)
    return header


def with_current_names(row: Mapping[str, Value]) -> dict[str, Value]:
    """A row of an earlier version's log under today's names; one that has a value under both keeps today's."""
    if RENAMED.keys().isdisjoint(row):
        return dict(row)
    return {current(name): value for name, value in row.items() if current(name) == name or current(name) not in row}
