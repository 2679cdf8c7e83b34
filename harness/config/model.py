"""The schema of `model`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, Name, Section


class TinyArchitecture(Section):
    """The size of a Llama built with random weights."""

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
    path: str | None = Field(
        None, description="folder or GGUF file, also package:NAME/PATH; takes precedence over hub_id"
    )
    hub_id: str | None = Field(None, description="model on the Hugging Face Hub")
    revision: str | None = Field(None, description="revision on the Hub; a commit, so that it cannot change")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the weights in memory")
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa",
        description="attention of padded batches and of generation; packed batches have their own, per document",
    )
    gradient_checkpointing: bool | Literal["selective"] = Field(
        False,
        description="recompute activations in the backward pass; true: whole layers, about a third more time; "
        "selective: all except the outputs of matrix products and attention",
    )
    shape: dict[str, Any] | None = Field(
        None,
        description="model_type and sizes as in the published config.json: without the weights, harness.explain "
        "counts parameters and names of parameters are checked with them; no effect on the run",
    )

    @property
    def location(self) -> str | None:
        """Where the model is read from: a local path wins over the Hub."""
        return self.path or self.hub_id

    def __hash__(self) -> int:
        # pydantic's own hash of a frozen model fails on the dictionary `shape`; tokenizers are cached by this config.
        return hash(self.model_dump_json())
