"""The schema of `train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section
from harness.config.budget import Budget

PairMode = Literal["concat", "sequential"]


class LoRAConfig(Section):
    """Low-rank adapters (2106.09685): W + (alpha / rank) B A on each target, with W frozen."""

    rank: Count = Field(16, description="rank of A and B")
    alpha: Positive = Field(32.0, description="numerator of the adapter scale alpha / rank; not the noise alpha")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout probability of the adapters' inputs")
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        ["all-linear"],
        description="suffixes of module names (q_proj); all-linear: every linear layer except the output head",
    )
    # Quantisation of the base model to 4 bits, for method=qlora.
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = Field(True, description="also quantise the quantisation constants")


class TrainConfig(Section):
    """The optimisation recipe. Sizes are in examples and tokens, never in devices."""

    name: Name
    epochs: Positive | None = Field(None, description="passes over the training examples; need not be whole")
    max_steps: Count | None = Field(None, description="optimiser steps; overrides epochs")
    method: Literal["full", "lora", "qlora"] = Field(
        "full", description="full: train all weights; lora: adapters; qlora: adapters on a 4-bit base"
    )
    lora: LoRAConfig = Field(LoRAConfig.model_validate({}), description="only for method=lora and method=qlora")
    freeze: list[str] = Field(
        [],
        description="parts to freeze: embeddings, head, attention, or patterns of parameter names "
        '("model.layers.0.*"); each must match something',
    )
    batch_size: Count = Field(128, description="examples per optimiser step, in total over devices and micro-batches")
    budget: Budget = Field(
        "equal_steps",
        description="what is held equal when a method forwards each example more than once: the steps, the "
        "forwarded rows, or the unique examples at equal rows per step (harness/config/budget.py)",
    )
    devices: Count | Literal["auto"] = Field(
        1, description="processes on each node, one per GPU (or on the CPU); auto: all visible GPUs"
    )
    nodes: Count = Field(1, description="machines that train one run together (docs/scaling.md)")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="with several devices: a full copy of the model on each (ddp), or shards (fsdp)"
    )
    cpu_offload: bool = Field(False, description="fsdp: keep shards and optimiser state in host memory")
    micro_batch_tokens: Count = Field(
        2048, description="tokens per forward pass on each device, at most; a pair doubles them"
    )
    row_multiple: Count = Field(
        1,
        description="pad rows to a multiple of this many tokens; if equal to micro_batch_tokens, all rows of "
        "packed batches have one length",
    )
    compile: bool = Field(
        False, description="run norms and feed-forward layers through torch.compile, once per row length"
    )
    liger: bool = Field(False, description="use liger-kernel's norms and SwiGLU for Llama-like models, on a GPU")
    layout: Literal["auto", "packed", "padded"] = Field(
        "auto", description="auto: packed if the model supports it, but padded with noise.length=padded"
    )
    optimizer: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = Field("AdamW", description="a class of torch.optim")
    optimizer_options: dict[str, Any] | None = Field(
        None, description="its further arguments (betas, momentum); lr and weight_decay have their own keys"
    )
    lr: Positive = Field(5e-5, description="peak learning rate")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="learning rate after warmup: decay to 0 (cosine, linear), or constant"
    )
    warmup_ratio: Fraction = Field(
        0.03, description="fraction of the steps over which the learning rate rises linearly from 0"
    )
    weight_decay: NonNegative = Field(0.0, description="applied to all parameters, norms and biases included")
    max_grad_norm: Positive = Field(1.0, description="gradients are clipped to this L2 norm")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="bf16: autocast over float32 weights; auto: bf16 on a GPU that supports it, else fp32"
    )
    tf32: bool = Field(False, description="compute float32 matrix products on a GPU in TF32 (10-bit mantissa)")
    loss: Literal["token_mean", "micro_batch_mean"] = Field(
        "token_mean",
        description="token_mean: mean over all response tokens of the effective batch; micro_batch_mean: mean of "
        "the micro-batches' means, as in the official code",
    )
    pair_mode: PairMode = Field(
        "concat",
        description="how a pair is forwarded: concat: as one batch of twice the rows; sequential: one half after "
        "the other",
    )
    log_every: Count = Field(
        10,
        description="steps between full rows of metrics; loss, gradient norm and learning rate are logged every step",
    )
    heldout_every: CountOrZero = Field(
        0, description="steps between evaluations of the held-out loss; 0: only after the last step"
    )
    checkpoint_every: CountOrZero = Field(100, description="steps between resumable checkpoints; 0: only on SIGTERM")
    keep_checkpoints: Count = Field(2, description="number of newest checkpoints kept on disk during training")
    checkpoint_async: bool = Field(
        False, description="write checkpoints in the background, from a copy of the state in host memory"
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
