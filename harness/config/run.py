"""The schema of one run: its sections put together, and how a composed config is parsed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from harness.config.base import Count, Name, Section
from harness.config.budget import Budget, check_divisible
from harness.config.data import DatasetConfig, EvalSetConfig
from harness.config.generate import GenerateConfig
from harness.config.judge import JudgeConfig
from harness.config.messages import rule_violations
from harness.config.model import ModelConfig
from harness.config.noise import NoiseConfig
from harness.config.probe import ProbeConfig
from harness.config.train import PairMode, TrainConfig
from harness.noise.definition import LAYOUT_OF_LENGTH

Stage = Literal["train", "generate", "judge", "probe"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class TrackingConfig(Section):
    """Where a copy of each run goes, laid out as that tracker's users expect (docs/tracking.md)."""

    name: Name
    kind: Literal["wandb", "trackio", "mlflow"] = Field(
        "wandb", description="tracker: wandb (Weights & Biases), or trackio or mlflow, which stay on this machine"
    )
    mode: Literal["offline", "online", "disabled"] = Field(
        description="offline: log to disk; online: also send to the server; disabled: no copy"
    )
    project: Name = Field("noise-harness", description="W&B project")
    entity: str | None = Field(None, description="W&B user or team; null: the account's default")
    group: str | None = Field(None, description="name shared by runs that belong together; the sweep fills it in")
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        [], description="extra tags, besides model, data set, noise and experiment"
    )
    notes: str | None = Field(None, description="free text: what the run is for")
    log_model: Literal[False, "end"] = Field(False, description="end: upload the trained weights as an artifact")

    @model_validator(mode="after")
    def _local_ones_send_nothing(self) -> TrackingConfig:
        if self.kind != "wandb" and self.mode == "online":
            raise ValueError(f"mode=online: tracking.kind={self.kind} writes to this machine alone; take mode=offline")
        return self


class ControlConfig(Section):
    """Switches of the command itself, not of the run."""

    dry_run: bool = Field(False, description="print the plan and stop")
    workers: Count | Literal["auto"] = Field(
        "auto",
        description="runs of a sweep executed at once on this machine; auto: small models in parallel, others one "
        "by one",
    )
    runs_per_gpu: Count = Field(1, description="runs that may share one GPU; further runs wait")
    explain: bool = Field(
        False, description="compare each run's recipe with the papers', estimate memory and time, and stop"
    )
    trust_run: bool = Field(
        False, description="with run_id=FOLDER: also use the judge, programs and task files that its settings name"
    )
    keep_diff: bool = Field(False, description="store uncommitted code changes as text, not only as a hash")
    objective: Annotated[str, Field(pattern=r"^[^/\s]+(/[^/\s]+)+$")] | None = Field(
        None,
        description="final metric (eval/loss, selection/accuracy) that the Hydra job returns to a hyperparameter "
        "search",
    )
    overrides: list[str] = Field([], description="set by the command: the overrides typed for this run")
    run_id: str | None = Field(None, description="set by the sweep: ID of the run that was planned and checked")
    position: str | None = Field(None, description="set by the sweep: position in the queue")
    files: dict[str, str] = Field(
        {}, description="set by run_id=RUN: hashes of the run's input files, in case they no longer exist"
    )


class Config(Section):
    """One run, complete."""

    model: ModelConfig
    dataset: DatasetConfig
    eval_set: EvalSetConfig
    noise: NoiseConfig
    train: TrainConfig
    generate: GenerateConfig
    judge: JudgeConfig
    probe: ProbeConfig
    tracking: TrackingConfig
    harness: ControlConfig
    alpha: Annotated[float, Field(ge=0, le=10_000)] = Field(description="noise strength: alpha / sqrt(L d) per entry")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        description="seed of data order, noise, dropout and random initial weights"
    )
    stages: Annotated[list[Stage], Field(min_length=1)] = Field(description="stages to run")
    output_dir: str = Field(description="folder of all runs")
    offline: bool = Field(False, description="download nothing; say what is missing and how to get it")
    experiment: str | None = Field(None, description="name of the experiment, which sets it")

    @model_validator(mode="before")
    @classmethod
    def _say_what_is_used(cls, data: Any) -> Any:
        """Drop settings without effect, so that noise=none in a grid is one run: alpha without noise, the budget of a
        single pass, the pair_mode of no pair. Where train.layout is auto, lay out batches as noise.length requires.
        """
        noise, train = (data.get("noise"), data.get("train")) if isinstance(data, dict) else (None, None)
        if not isinstance(noise, dict):
            return data
        dropped: dict[str, Any] = {}
        if noise.get("distribution") in ("none", "dropout") and isinstance(data.get("alpha"), int | float):
            dropped["alpha"] = 0.0
        once = noise.get("method", "noise") == "noise" and noise.get("pair", "none") == "none"
        paired = noise.get("method", "noise") == "noise" and not once
        if isinstance(train, dict):
            used: dict[str, str] = {}
            if once and train.get("budget") in get_args(Budget):
                used["budget"] = "equal_steps"
            if not paired and train.get("pair_mode") in get_args(PairMode):
                used["pair_mode"] = "concat"
            if train.get("layout") == "auto" and (only := LAYOUT_OF_LENGTH.get(str(noise.get("length")))):
                used["layout"] = only
            dropped["train"] = {**train, **used}
        return {**data, **dropped}

    @field_validator("stages")
    @classmethod
    def _each_stage_once(cls, value: list[Stage]) -> list[Stage]:
        if len(set(value)) != len(value):
            raise ValueError("contains a stage twice")
        return value

    @model_validator(mode="after")
    def _probes_have_what_they_need(self) -> Config:
        if self.probe.every and self.train.sharding == "fsdp":
            raise ValueError("probe.every: probes during training need the whole model, which train.sharding=fsdp cuts")
        if self.probe.every and not self.dataset.heldout:
            raise ValueError("probe.every: needs held-out examples, and there are none (dataset.heldout=0)")
        return self

    @model_validator(mode="after")
    def _compiled_layers_can(self) -> Config:
        if self.train.compile and self.model.gradient_checkpointing == "selective":
            raise ValueError("model.gradient_checkpointing=selective: sees no operation of train.compile's layers")
        for key in ("compile", "liger"):
            if getattr(self.train, key) and self.probe.every:
                raise ValueError(f"probe.every: differentiates twice, which layers with train.{key}=true cannot")
        if self.train.row_multiple > 1 and self.noise.length == "padded":
            raise ValueError("train.row_multiple: noise.length=padded goes by the width of the batch, which it changes")
        return self

    @model_validator(mode="after")
    def _budget_divides(self) -> Config:
        check_divisible(self.train.batch_size, self.noise.cost.forwards, self.train.budget)
        return self

    @model_validator(mode="after")
    def _length_shows_in_the_layout(self) -> Config:
        only = LAYOUT_OF_LENGTH.get(self.noise.length)
        if only not in (None, self.train.layout):
            raise ValueError(
                f"train.layout={self.train.layout}: noise.length={self.noise.length} means what it says in "
                f"{only} batches only; leave train.layout at auto"
            )
        return self

    @model_validator(mode="after")
    def _newline_of_the_alpaca_prompt(self) -> Config:
        if self.generate.prompt != "as_trained" and self.dataset.prompt != "alpaca":
            raise ValueError(f"generate.prompt={self.generate.prompt} needs dataset.prompt=alpaca")
        return self


def parse(composed: dict[str, Any]) -> Config:
    """Parse and check a composed config.

    Raises:
        ValueError: one line per violated rule, each naming key, value and what is allowed.
    """
    try:
        return Config.model_validate(composed)
    except ValidationError as error:
        raise ValueError(rule_violations(error)) from None


def defaults(section: type[BaseModel] = Config) -> dict[str, Any]:
    """Every key of the schema with its default; "???" (OmegaConf's mandatory value) where there is none."""
    found: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[name] = defaults(info.annotation)
        else:
            found[name] = "???" if info.is_required() else info.default
    return found
