"""The schema of `train`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.budget import Budget
from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section

PairMode = Literal["concat", "sequential"]


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
    devices: Count | Literal["auto"] = Field(
        1, description="processes on each node, one GPU each, on a CPU without; auto: all GPUs that are visible"
    )
    nodes: Count = Field(1, description="machines that train one run together; see docs/scaling.md")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="with several devices: a whole model on each, or shards"
    )
    cpu_offload: bool = Field(False, description="fsdp: keep shards and optimiser state in main memory")
    micro_batch_tokens: Count = Field(2048, description="tokens per forward pass, before a pair doubles them")
    layout: Literal["auto", "packed", "padded"] = Field(
        "auto", description="auto: packed where the model can, except that noise.length=padded is padded"
    )
    lr: Positive = 5e-5
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.03
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    loss: Literal["token_mean", "micro_batch_mean"] = "token_mean"
    pair_mode: PairMode = "concat"
    log_every: Count = Field(10, description="steps between logged rows")
    checkpoint_every: CountOrZero = Field(100, description="steps between resumable checkpoints; 0: none")
    keep_model: bool = Field(True, description="keep the final weights after the last stage")

    @model_validator(mode="after")
    def _length_given(self) -> TrainConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give epochs or max_steps")
        return self

    @property
    def several(self) -> bool:
        """Whether more than one process trains."""
        return self.nodes > 1 or self.devices != 1

    @model_validator(mode="after")
    def _devices_fit(self) -> TrainConfig:
        if self.sharding == "fsdp" and not self.several:
            raise ValueError("sharding=fsdp needs several processes: give train.devices (or train.nodes)")
        if self.cpu_offload and self.sharding != "fsdp":
            raise ValueError("cpu_offload=true has no effect with sharding=ddp")
        if self.loss == "micro_batch_mean" and self.devices == "auto":
            raise ValueError("devices='auto': with loss=micro_batch_mean the result depends on it; give a number")
        return self
