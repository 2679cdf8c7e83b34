"""Small random models of each architecture that answers are generated with, and prompts for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY, PAD = 61, 2
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": PAD,
    "pad_token_id": PAD,
    "initializer_range": 0.3,  # large: answers that depend on the context, and no near-ties
}
LLAMA: dict[str, Any] = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# name -> (model class, config); every one of these is known to the engine
ENGINE_MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, lambda: LlamaConfig(**LLAMA)),
    "llama tied, biased": (
        LlamaForCausalLM,
        lambda: LlamaConfig(**LLAMA, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    ),
    "llama, llama3 rope": (LlamaForCausalLM, lambda: LlamaConfig(**LLAMA, rope_parameters=LLAMA3_ROPE)),
    "mistral": (MistralForCausalLM, lambda: MistralConfig(**LLAMA, sliding_window=None)),
    "qwen2": (Qwen2ForCausalLM, lambda: Qwen2Config(**LLAMA)),
    "qwen3": (Qwen3ForCausalLM, lambda: Qwen3Config(**LLAMA, head_dim=16)),
}
OTHER_MODELS: dict[str, tuple[Any, Any]] = {
    "gpt-neox": (GPTNeoXForCausalLM, lambda: GPTNeoXConfig(**COMMON, intermediate_size=48)),
    "opt": (OPTForCausalLM, lambda: OPTConfig(**COMMON, ffn_dim=48, word_embed_proj_dim=32)),
}
PROMPTS = [[5, 9, 11], [7], [3, 2, 2, 8, 30, 31, 32, 33], [2, 50], [40, 41, 42, 43, 44], [2, 2, 2], [60, 1, 17]]


@cache
def tiny(name: str) -> Any:
    model_class, config = {**ENGINE_MODELS, **OTHER_MODELS}[name]
    torch.manual_seed(0)
    model = model_class(config()).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):  # zero at first, which would hide a forgotten bias
                parameter.normal_(std=0.3)
    return model
