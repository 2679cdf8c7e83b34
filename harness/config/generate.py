"""The schema of `generate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.config.base import Count, Name, Positive, Section


class GenerateConfig(Section):
    """Decoding is greedy; the penalty is the papers' 1.2."""

    name: Name
    max_new_tokens: Count = 256
    max_length: Count = Field(2048, description="tokens of prompt and answer together (the papers' limit)")
    repetition_penalty: Positive = 1.2
    batch_size: Count = 32
    backend: Literal["auto", "engine", "transformers", "vllm"] = Field(
        "auto",
        description="auto: the engine where it knows the model, else transformers; vllm: a GPU and the extra vllm",
    )
    prompt: Literal["as_trained", "alpaca_evaluation_newline"] = Field(
        "as_trained",
        description="alpaca_evaluation_newline: the papers' evaluation, whose prompt ends in a line end "
        "that their training lacks; to reproduce them only",
    )
