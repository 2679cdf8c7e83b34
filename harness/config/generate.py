"""The schema of `generate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.config.base import Count, Name, Positive, Section


class GenerateConfig(Section):
    """How answers are decoded: greedily, by default with the papers' repetition penalty of 1.2."""

    name: Name
    max_new_tokens: Count = 256
    max_length: Count = Field(2048, description="tokens of prompt and answer together (the papers' limit)")
    repetition_penalty: Positive = 1.2
    batch_size: Count | None = Field(
        None, description="most rows decoded together; null: 32 on a CPU, 256 on a GPU; fewer if memory is short"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype used to compute answers; auto: bfloat16 on a GPU, the model's own on a CPU"
    )
    cache_gib: Positive | None = Field(
        None, description="GiB of key-value cache per device; null: what is free on a GPU, 4 on a CPU"
    )
    devices: Count | Literal["auto"] = Field(
        "auto", description="processes that answer, one per GPU; auto: as many as trained, up to the GPUs available"
    )
    tensor_parallel: Count | None = Field(None, description="GPUs that share one model; null: as few as it fits on")
    backend: Literal["auto", "engine", "transformers", "vllm"] = Field(
        "auto",
        description="auto: the engine if it supports the model, else transformers; vllm: see `python`",
    )
    python: str | None = Field(
        None, description="backend=vllm: interpreter of the environment with vllm; null: this one"
    )
    prompt: Literal["as_trained", "alpaca_evaluation_newline"] = Field(
        "as_trained",
        description="alpaca_evaluation_newline: the papers' evaluation, whose prompt ends in a newline "
        "that the training prompt lacks; only for reproducing them",
    )

    @model_validator(mode="after")
    def _ranks_divide(self) -> GenerateConfig:
        together, devices = self.tensor_parallel or 1, self.devices
        if devices != "auto" and devices % together:
            raise ValueError(f"tensor_parallel={together}: does not divide devices={devices}")
        if self.python is not None and self.backend != "vllm":
            raise ValueError(f"python={self.python}: has no effect without backend=vllm")
        return self
