"""The schema of `train`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.budget import Budget
from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section


class TrainConfig(Section):
    """The optimisation recipe. Sizes are in examples and tokens, never in devices."""

    name: Name
    epochs: Positive | None = None
    max_steps: Count | None = Field(None, description="optimiser steps; overrides epochs")
    batch_size: Count = Field(128, description="examples per optimiser step, over all devices and micro-batches")
    budget: Budget = Field(
        "equal_steps",
        description="what methods that forward an example more than once share with the others: "
        "the steps, the forwarded rows, or the examples at equal rows per step (harness/budget.py)",
    )
    micro_batch_tokens: Count = Field(2048, description="tokens per forward pass, before a pair doubles them")
    layout: Literal["auto", "packed", "padded"] = "auto"
    lr: Positive = 5e-5
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.03
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    loss: Literal["token_mean", "micro_batch_mean"] = "token_mean"
    pair_mode: Literal["concat", "sequential"] = "concat"
    log_every: Count = Field(10, description="steps between logged rows")
    checkpoint_every: CountOrZero = Field(100, description="steps between resumable checkpoints; 0: none")
    keep_model: bool = Field(True, description="keep the final weights after the last stage")

    @model_validator(mode="after")
    def _length_given(self) -> TrainConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give epochs or max_steps")
        return self
