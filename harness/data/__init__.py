"""Training examples and instructions: where they come from, how they are checked, cleaned and split (docs/data.md)."""

from __future__ import annotations

from harness.data.examples import EvalItem, Example
from harness.data.files import read_rows, text_field
from harness.data.hub import go_offline
from harness.data.load import (
    Loaded,
    check_dataset,
    check_eval_set,
    load_dataset,
    load_eval_items,
    load_examples,
    require,
    wanted_examples,
)

__all__ = [
    "EvalItem",
    "Example",
    "Loaded",
    "check_dataset",
    "check_eval_set",
    "go_offline",
    "load_dataset",
    "load_eval_items",
    "load_examples",
    "read_rows",
    "require",
    "text_field",
    "wanted_examples",
]
