"""The schema of `train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section
from harness.config.budget import Budget

PairMode = Literal["concat", "sequential"]


class LoRAConfig(Section):
    """Low-rank adapters (2106.09685): W + (alpha / rank) B A on each target, with W frozen."""

    rank: Count = 16
    alpha: Positive = Field(32.0, description="numerator of the adapters' scale; not the noise's alpha")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        ["all-linear"], description="ends of module names (q_proj); all-linear: every linear layer but the head"
    )
    # Quantisation of the base model to 4 bits, for method=qlora.
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = Field(True, description="also quantise the scales")


class TrainConfig(Section):
    """The optimisation recipe. Sizes are in examples and tokens, never in devices."""

    name: Name
    epochs: Positive | None = None
    max_steps: Count | None = Field(None, description="optimiser steps; overrides epochs")
    method: Literal["full", "lora", "qlora"] = Field(
        "full", description="what is trained: all weights, adapters, or adapters on a 4-bit base"
    )
    lora: LoRAConfig = Field(LoRAConfig.model_validate({}), description="of method=lora and qlora only")
    freeze: list[str] = Field(
        [],
        description="frozen parts: embeddings, head, attention, or patterns of parameter names "
        '("model.layers.0.*"); each must match something',
    )
    batch_size: Count = Field(128, description="examples per optimiser step, over all devices and micro-batches")
    budget: Budget = Field(
        "equal_steps",
        description="what methods that forward an example more than once keep equal to the others: "
        "the steps, the forwarded rows, or the examples at equal rows per step (harness/config/budget.py)",
    )
    devices: Count | Literal["auto"] = Field(
        1, description="processes on each node, one per GPU (or on the CPU); auto: all visible GPUs"
    )
    nodes: Count = Field(1, description="machines that train one run together (docs/scaling.md)")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="with several devices: a whole model on each, or shards"
    )
    cpu_offload: bool = Field(False, description="fsdp: keep shards and optimiser state in host memory")
    micro_batch_tokens: Count = Field(2048, description="tokens per forward pass, before a pair doubles them")
    row_multiple: Count = Field(
        1,
        description="rows are filled with padding to a multiple of so many tokens; as many as micro_batch_tokens: all "
        "rows of packed batches have one length",
    )
    compile: bool = Field(
        False, description="norms and feed-forward layers through torch.compile, once for each length of rows"
    )
    liger: bool = Field(
        False, description="norms and SwiGLU of Llama and its kin by the package liger-kernel, on a GPU"
    )
    layout: Literal["auto", "packed", "padded"] = Field(
        "auto", description="auto: packed if the model supports it; noise.length=padded is padded"
    )
    optimizer: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = Field("AdamW", description="a class of torch.optim")
    optimizer_options: dict[str, Any] | None = Field(
        None, description="its other arguments (betas, momentum), except lr and weight_decay"
    )
    lr: Positive = 5e-5
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.03
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="bf16: autocast over float32 weights; auto: bf16 on a GPU that supports it, else fp32"
    )
    tf32: bool = Field(False, description="compute float32 matrix products on a GPU in TF32 (10-bit mantissa)")
    loss: Literal["token_mean", "micro_batch_mean"] = "token_mean"
    pair_mode: PairMode = "concat"
    log_every: Count = Field(10, description="steps between full rows; loss, gradient norm and rate: every step")
    heldout_every: CountOrZero = Field(0, description="steps between held-out losses; 0: after the last step only")
    checkpoint_every: CountOrZero = Field(100, description="steps between resumable checkpoints; 0: only on SIGTERM")
    keep_checkpoints: Count = Field(2, description="newest checkpoints kept on disk during training")
    checkpoint_async: bool = Field(
        False, description="write checkpoints while training goes on, from a copy of its state in main memory"
    )
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
        if self.sharding == "fsdp" and self.method == "qlora":
            raise ValueError("sharding=fsdp: a 4-bit base cannot be sharded; use ddp, or train.method=lora")
        if self.cpu_offload and self.sharding != "fsdp":
            raise ValueError("cpu_offload=true has no effect with sharding=ddp")
        if self.compile and 8 * self.row_multiple < self.micro_batch_tokens:  # torch gives up after eight
            raise ValueError(
                f"compile=true compiles anew for every length of rows: give train.row_multiple "
                f"{self.micro_batch_tokens} (micro_batch_tokens), not {self.row_multiple}"
            )
        if self.liger and self.compile:
            raise ValueError("liger=true has no effect beside compile=true, which fuses these layers itself")
        if self.loss == "micro_batch_mean" and self.devices == "auto":
            raise ValueError("devices='auto': with loss=micro_batch_mean the result depends on it; give a number")
        return self

    @property
    def is_plain(self) -> bool:
        """Plain AdamW on all weights: works with any model, so there is nothing to check in advance."""
        plain = TrainConfig.model_validate({"name": "plain", "epochs": 1})
        keys = ("method", "freeze", "optimizer", "optimizer_options", "liger")
        return all(getattr(self, key) == getattr(plain, key) for key in keys)

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> TrainConfig:
        if self.method == "full" and self.lora != LoRAConfig.model_validate({}):
            raise ValueError("lora has no effect with train.method=full: choose lora or qlora")
        if self.method != "full" and self.freeze:
            raise ValueError(
                f"freeze={self.freeze} has no effect with train.method={self.method}: everything is frozen"
            )
        taken = sorted({"params", "lr", "weight_decay"} & set(self.optimizer_options or {}))
        if taken:
            raise ValueError(f"optimizer_options contains {', '.join(taken)}: give train.lr and train.weight_decay")
        return self
