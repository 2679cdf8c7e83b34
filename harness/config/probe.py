"""The schema of `probe`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Name, Positive, Section

Distribution = Literal["rademacher", "gaussian"]


class BenchmarksConfig(Section):
    """Tasks of the lm-evaluation-harness (extra `eval`); none by default."""

    tasks: list[str] = Field([], description="tasks, groups or tags, by lm-eval's names")
    include_path: str | None = Field(None, description="folder with more task files, also as package:NAME/FOLDER")
    num_fewshot: CountOrZero | None = Field(
        None, description="few-shot examples in the prompt; null: the task's own number"
    )
    apply_chat_template: bool = Field(
        False, description="wrap each question in the training prompt; false: bare, as in the papers' tasks"
    )
    limit: Count | None = Field(None, description="documents per task; null: all")
    batch_size: Count = Field(8, description="requests per forward pass")
    run_code: bool = Field(False, description="let tasks execute code that the model wrote; only in a sandbox")


class GradientConfig(Section):
    """What embedding noise does to the gradient of a batch (`harness.probe.gradient_noise`); off by default."""

    twos: CountOrZero = Field(0, description="pairs of batches with different training documents; 0: do not measure")
    batch_size: Count = Field(16, description="documents per batch")
    draws: Count = Field(2, description="noise draws per batch, each used with both signs")
    alphas: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1.0, 5.0, 10.0, 15.0, 30.0], description="noise strengths to measure"
    )
    distribution: Literal["rademacher", "gaussian", "uniform"] = Field(
        "rademacher", description="distribution of the noise entries"
    )
    scale: Literal["raw", "matched", "relative"] = Field("raw", description="see noise.scale")
    models: Annotated[list[Literal["base", "trained"]], Field(min_length=1)] = Field(
        ["base", "trained"], description="base: before fine-tuning; trained: after it"
    )

    @model_validator(mode="after")
    def _once(self) -> GradientConfig:
        for key in ("alphas", "models"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"{key}={getattr(self, key)}: holds a value twice")
        return self


class ProbeConfig(Section):
    """What is measured of a trained model, on how many examples; equations and units in docs/probes.md.

    Radii are in the units of alpha: e = radius / sqrt(L d) b, with b of unit variance per entry.
    """

    name: Name
    seed: int = Field(
        0,
        description="seed of the random directions, which depend only on (seed, document, number) and so are the "
        "same in all runs",
    )
    examples: Count = Field(8, description="held-out examples for the differences along random directions")
    distributions: Annotated[list[Distribution], Field(min_length=1)] = Field(
        ["rademacher", "gaussian"], description="distributions of the random directions"
    )
    directions: Count = Field(1, description="directions per distribution and example")
    radii: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1.0, 5.0, 15.0, 100.0], description="norms of the steps along a direction, in units of alpha"
    )
    hessian_examples: CountOrZero = Field(
        2, description="how many of `examples` get a gradient, trace and top eigenvalue"
    )
    trace_directions: Count = Field(2, description="random sign vectors of Hutchinson's trace estimator")
    power_iterations: Count = Field(4, description="Hessian-vector products for the top eigenvalue")
    overfitting_examples: CountOrZero = Field(
        32, description="training examples, and as many held-out ones, for loss and calibration"
    )
    memorisation_examples: CountOrZero = Field(
        8, description="training prompts, and as many held-out ones, to be answered"
    )
    memorisation_tokens: Count = Field(
        64, description="tokens of such an answer, at most; greedy, without repetition penalty"
    )
    max_tokens: Count = Field(
        1024, description="tokens per forward pass, at most; three copies of their logits exist at a time"
    )
    every: CountOrZero = Field(0, description="steps between smoothness probes during training; 0: only afterwards")

    gradient: GradientConfig = GradientConfig.model_validate({})
    benchmarks: BenchmarksConfig

    @model_validator(mode="after")
    def _sizes_fit(self) -> ProbeConfig:
        if self.hessian_examples > self.examples:
            raise ValueError(f"hessian_examples={self.hessian_examples}: more than examples={self.examples}")
        for key in ("radii", "distributions"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"{key}={getattr(self, key)}: contains a value twice")
        return self
