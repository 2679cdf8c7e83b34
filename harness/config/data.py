"""The schema of `dataset` and `eval_set`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.config.base import Count, CountOrZero, Name, Section


class DatasetConfig(Section):
    """The training examples; `builtin` is generated, anything else is read from `path`."""

    name: Name
    path: str | None = None
    prompt: Literal["alpaca"] = "alpaca"
    size: Count | None = Field(None, description="examples to train on; null: all")
    heldout: CountOrZero = Field(128, description="examples kept out of training for the held-out loss")
    seed: int = Field(42, description="seed of the shuffle before subset and held-out split")
    max_length: Count = Field(512, description="tokens; longer examples are cut there")


class EvalSetConfig(Section):
    """The instructions to answer after training."""

    name: Name
    path: str | None = Field(
        None, description="JSON of AlpacaEval rows: instruction, dataset and output (the reference)"
    )
    limit: Count | None = Field(None, description="keep the first N instructions of a file")
    heldout: CountOrZero = Field(0, description="builtin: items of the training families")
    unseen: CountOrZero = Field(0, description="builtin: items of families never trained on")
    seed: int = 0
