"""The schema of one run: what Hydra composed becomes a frozen, checked object.

YAML composes; pydantic rejects unknown keys, wrong types, bad ranges and NaN, and `parse` turns the first complaint
into one line that names the key, its value and what is allowed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

STAGES = ("train", "generate", "judge")
Stage = Literal["train", "generate", "judge"]

# A name becomes part of folder and file names, so it can hold no separators and no "..".
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([.][A-Za-z0-9_-]+)*$", max_length=60)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section: unknown keys, implicit conversions, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TinyArchitecture(Section):
    """Size of a Llama that is built from this config with random weights."""

    hidden_size: Count
    layers: Count
    heads: Count
    intermediate_size: Count
    max_positions: Count = 1024

    @model_validator(mode="after")
    def _heads_divide(self) -> TinyArchitecture:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of 2 x heads={self.heads}")
        return self


class ModelConfig(Section):
    """Where the model comes from: exactly one of `architecture` (random weights), `path` (folder, GGUF) or `hub_id`."""

    name: Name
    architecture: TinyArchitecture | None = None
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False


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


class NoiseConfig(Section):
    """The axes of `harness.noise.Noise` except alpha, which is swept on its own."""

    name: Name
    distribution: Literal["uniform", "gaussian", "rademacher", "dropout", "none"] = "uniform"
    scale: Literal["raw", "matched"] = "raw"
    pair: Literal["none", "antithetic", "independent"] = "none"
    length: Literal["true", "padded", "row"] = "true"
    where: Literal["all", "prompt", "response"] = "all"
    special_tokens: bool = Field(True, description="noise special tokens too")
    schedule: Literal["constant", "linear", "cosine", "warmup"] = Field(
        "constant", description="of alpha over training"
    )
    rate: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of distribution=dropout only")


class TrainConfig(Section):
    """The optimisation recipe. Sizes are in examples and tokens, never in devices."""

    name: Name
    epochs: Positive | None = None
    max_steps: Count | None = Field(None, description="optimiser steps; overrides epochs")
    batch_size: Count = Field(128, description="examples per optimiser step, over all devices and micro-batches")
    micro_batch_tokens: Count = Field(4096, description="tokens per forward pass, before a pair doubles them")
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


class GenerateConfig(Section):
    """Decoding is greedy; the penalty is the papers' 1.2."""

    name: Name
    max_new_tokens: Count = 256
    max_length: Count = Field(2048, description="tokens of prompt and answer together (the papers' limit)")
    repetition_penalty: Positive = 1.2
    batch_size: Count = 32
    backend: Literal["auto", "engine", "transformers"] = "auto"


class JudgeConfig(Section):
    """Who compares an answer with the reference."""

    name: Name
    kind: Literal["reference"] = "reference"


class TrackingConfig(Section):
    """Weights & Biases; `group` is filled in by the sweep."""

    name: Name
    mode: Literal["offline", "online", "disabled"]
    project: Name = "noise-harness"
    entity: str | None = None
    group: str | None = None


class ControlConfig(Section):
    """Switches of the command itself, not of the run."""

    dry_run: bool = Field(False, description="print the plan and stop")
    run_id: str | None = Field(None, description="set by the sweep: the identity that was planned and checked")
    position: str | None = Field(None, description="set by the sweep: place in the queue")


class Config(Section):
    """One run, complete."""

    model: ModelConfig
    dataset: DatasetConfig
    eval_set: EvalSetConfig
    noise: NoiseConfig
    train: TrainConfig
    generate: GenerateConfig
    judge: JudgeConfig
    tracking: TrackingConfig
    harness: ControlConfig
    alpha: Annotated[float, Field(ge=0, le=10_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    stages: Annotated[list[Stage], Field(min_length=1)]
    output_dir: str
    experiment: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_alpha_without_noise(cls, data: Any) -> Any:
        """Drop alpha where nothing uses it, so that noise=none in an alpha grid is one run."""
        noise = data.get("noise") if isinstance(data, dict) else None
        unused = isinstance(noise, dict) and noise.get("distribution") in ("none", "dropout")
        if unused and isinstance(data.get("alpha"), int | float):
            return {**data, "alpha": 0.0}
        return data


def parse(composed: dict[str, Any]) -> Config:
    """Check a composed config.

    Raises:
        ValueError: one line per violated rule, each naming key, value and what is allowed.
    """
    try:
        return Config.model_validate(composed)
    except ValidationError as error:
        raise ValueError("; ".join(_one_line(item) for item in error.errors())) from None


def defaults(section: type[BaseModel] = Config) -> dict[str, Any]:
    """Every key of the schema with its default; "???" (OmegaConf's mandatory value) where there is none."""
    found: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[name] = defaults(info.annotation)
        else:
            found[name] = "???" if info.is_required() else info.default
    return found


def _one_line(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "extra_forbidden":
        return f"{key}: there is no such key"
    if item["type"] == "missing":
        return f"{key}: is missing"
    if isinstance(item["input"], dict):
        return f"{key}: {message}"
    return f"{key}={item['input']!r}: {message}"
