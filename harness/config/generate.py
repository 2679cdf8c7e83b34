"""The schema of `generate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Name, NonNegative, Positive, Section


class GenerateConfig(Section):
    """Decoding is greedy unless a temperature is given; the penalty is the papers' 1.2."""

    name: Name
    max_new_tokens: Count = Field(256, description="tokens of an answer, at most")
    max_length: Count = Field(2048, description="tokens of prompt and answer together, at most (2048 in the papers)")
    repetition_penalty: Positive = Field(
        1.2, description="divides the logits of tokens that already occurred (multiplies negative ones); 1: none"
    )
    temperature: NonNegative = Field(0.0, description="0: greedy decoding; above 0: sampling")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="sample from the most likely tokens whose probabilities sum to this; 1: from all"
    )
    seed: CountOrZero = Field(
        0, description="sampling seed; an answer depends only on it, the prompt and the answer's number"
    )
    samples: Count = Field(1, description="answers per instruction; metrics are means over them")
    batch_size: Count | None = Field(
        None, description="rows decoded together, at most; null: 32 on a CPU, 256 on a GPU; fewer if memory is short"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype used to compute answers; auto: bfloat16 on a GPU, the model's own on a CPU"
    )
    cache_gib: Positive | None = Field(
        None, description="key-value cache per device, in GiB; null: the free memory on a GPU, 4 on a CPU"
    )
    devices: Count | Literal["auto"] = Field(
        "auto", description="processes that generate, one per GPU; auto: as many as trained, up to the GPUs available"
    )
    tensor_parallel: Count | None = Field(
        None, description="GPUs that share one copy of the model; null: as few as it fits on"
    )
    backend: Literal["auto", "engine", "transformers", "vllm"] = Field(
        "auto",
        description="auto: the engine if it supports the model, else transformers; vllm: in the environment of "
        "`python`",
    )
    cuda_graph: bool = Field(
        False,
        description="backend=engine: decode with fixed shapes, replayed as CUDA graphs on a GPU",
    )
    python: str | None = Field(
        None, description="backend=vllm: interpreter of the environment with vllm; null: this one"
    )
    prompt: Literal["as_trained", "alpaca_evaluation_newline"] = Field(
        "as_trained",
        description="alpaca_evaluation_newline: the papers' evaluation prompt, which ends in a newline that the "
        "training prompt lacks; only for reproducing them",
    )

    @model_validator(mode="before")
    @classmethod
    def _greedy_has_no_seed(cls, data: Any) -> Any:
        """Without a draw the seed decides nothing: greedy runs of several seeds are one run."""
        return {**data, "seed": 0} if isinstance(data, dict) and data.get("temperature", 0) == 0 else data

    @model_validator(mode="after")
    def _drawing_needs_a_temperature(self) -> GenerateConfig:
        for key, plain in (("top_p", 1.0), ("samples", 1)):
            if self.temperature == 0 and getattr(self, key) != plain:
                raise ValueError(f"{key}={getattr(self, key)}: needs a temperature above 0; all samples would be equal")
        return self

    @model_validator(mode="after")
    def _ranks_divide(self) -> GenerateConfig:
        together, devices = self.tensor_parallel or 1, self.devices
        if devices != "auto" and devices % together:
            raise ValueError(f"tensor_parallel={together}: does not divide devices={devices}")
        if self.python is not None and self.backend != "vllm":
            raise ValueError(f"python={self.python}: has no effect without backend=vllm")
        if self.cuda_graph and self.backend != "engine":
            raise ValueError(f"cuda_graph=true: has no effect without backend=engine (backend={self.backend})")
        return self
