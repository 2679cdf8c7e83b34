"""The schema of `model`."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from harness.config.base import Count, Name, Section


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
