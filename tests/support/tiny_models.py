"""Tiny causal language models with random weights, one per architecture, and documents to train them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.data.batching import IGNORE_INDEX, Document

VOCABULARY = 97

_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_ROTARY: dict[str, Any] = {**_SIZE, "num_key_value_heads": 2, "head_dim": 8}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _ROTARY,
    "qwen2": _ROTARY,
    "qwen3": _ROTARY,
    "gemma": _ROTARY,
    "mistral": {**_ROTARY, "sliding_window": 4},
    "gpt_neox": _SIZE,
    "opt": {**_SIZE, "ffn_dim": 48, "word_embed_proj_dim": 24},
    "mixtral": {**_ROTARY, "num_local_experts": 4},
    "granite": {**_ROTARY, "logits_scaling": 3.0},
    "cohere": {**_ROTARY, "logit_scale": 0.25},
    "gemma2": {**_ROTARY, "final_logit_softcapping": 0.5, "attn_logit_softcapping": 5.0},
    "gpt_oss": {**_ROTARY, "num_local_experts": 4, "num_experts_per_tok": 2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "nemotron": _ROTARY,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    # Its layers read the token ids a second time: embeddings for each layer.
    "gemma3n_text": {
        **_ROTARY,
        **{"intermediate_size": [48, 48], "activation_sparsity_pattern": [0.0, 0.0], "num_kv_shared_layers": 0},
        **{"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 4},
        **{"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4},
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def tiny_model(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """In training mode, without dropout; weights large enough for every part to show in the output."""
    settings = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(name, **settings, **_ARCHITECTURES[name], **changes)
    for dropout in ("dropout", "attention_dropout", "hidden_dropout"):
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    return model.to(dtype).train()


def random_documents(lengths: tuple[int, ...] = (9, 5, 7, 2), prompt: int = 2) -> list[Document]:
    """Random tokens; the first `prompt` of each bear no label. With prompt=0 every token has one."""
    rng = np.random.default_rng(0)
    documents = []
    for index, length in enumerate(lengths):
        input_ids = rng.integers(2, VOCABULARY, length)
        documents.append(Document(index, input_ids, np.where(np.arange(length) < prompt, IGNORE_INDEX, input_ids)))
    return documents
