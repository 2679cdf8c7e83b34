"""The model without its weights: parameters by name and size, built on torch's meta device from sizes alone.

Counts, frozen parts, targets of adapters and optimisers are checked on it before anything is read or fetched.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from harness.config import ModelConfig, TinyArchitecture
from harness.config.paths import ASSETS, resolve_path
from harness.models.checks import reading, vocabulary_size
from harness.record import read_json


def meta_model(config: ModelConfig) -> PreTrainedModel | None:
    """The model on the meta device; None if its sizes are not known (a Hub model without model.shape)."""
    found = published_config(config)
    if found is None:
        return None
    with reading(f"model={config.name}: no model of its config can be built"), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            found, dtype=getattr(torch, config.dtype), trust_remote_code=False
        )
    return model


def published_config(config: ModelConfig) -> PretrainedConfig | None:
    """transformers' config from, in this order, model.architecture, the folder in model.path, or model.shape."""
    if config.architecture is not None:
        return tiny_llama(config.architecture, vocabulary_size(read_json(ASSETS / "tiny_tokenizer" / "tokenizer.json")))
    folder = resolve_path(config.path) if config.path is not None else None
    if folder is not None and folder.is_dir():
        with reading(f"model={config.name}: no config in {folder}"):
            loaded: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return loaded
    if config.shape is None:
        return None
    return _from_sizes(config)


def _from_sizes(config: ModelConfig) -> PretrainedConfig:
    sizes: dict[str, Any] = dict(config.shape or {})
    model_type = sizes.pop("model_type", None)
    if not isinstance(model_type, str):
        raise ValueError(f"model.shape={config.shape}: model_type is missing (llama, gpt_neox, opt ...)")
    try:
        found: PretrainedConfig = AutoConfig.for_model(model_type, **sizes)
    except ValueError as error:
        raise ValueError(f"model.shape.model_type={model_type!r}: {error}") from None
    unknown = sorted(key for key in sizes if not hasattr(type(found)(), key))
    if unknown:
        raise ValueError(f"model.shape: {type(found).__name__} has no {', '.join(unknown)}")
    return found


def tiny_llama(size: TinyArchitecture, vocabulary: int, **special_ids: int | None) -> PretrainedConfig:
    """transformers' config of a Llama in a size of ours; `special_ids`: bos_token_id and the like, if they matter."""
    return AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate_size,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=False,
        **special_ids,
    )
