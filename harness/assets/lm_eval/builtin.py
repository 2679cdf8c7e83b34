"""Data of the local tasks: builtin families that no training set holds, as lm-eval wants them."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from harness.data import builtin
from harness.data.examples import with_input


def unseen(families: list[str], size: int, **_metadata: Any) -> dict[str, Dataset]:
    """`size` items of the families: question (lm-eval lays the prompt of training around it), answer, and the words."""
    items = builtin.generate("unseen", size, seed=0, families=families)
    rows = [
        {"prompt": with_input(item.instruction, item.input), "answer": item.output, "words": _words(item.key)}
        for item in items
    ]
    return {"test": Dataset.from_list(rows)}


def _words(key: str) -> list[str]:
    """The words of a problem out of its key, "family:word,word,..."."""
    return key.partition(":")[2].split(",")
