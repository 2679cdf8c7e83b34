"""Tiny models that judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from harness.config import JudgeConfig
from harness.config.paths import ASSETS

TOKENIZER = ASSETS / "tiny_tokenizer"
PROMPT = "{instruction} A: {output_1} B: {output_2} Which?"


def tiny(folder: Path, kind: Any, **settings: Any) -> Path:
    """A random tiny Llama with the project's own tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    positions = {"max_position_embeddings": 128, "pad_token_id": tokenizer.eos_token_id}
    kind(LlamaConfig(vocab_size=len(tokenizer), **{**size, **positions, **settings})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def local_lm(folder: Path, **changes: Any) -> JudgeConfig:
    settings = {"name": "tiny_lm", "kind": "local_lm", "prompt": PROMPT, "labels": ["A", "B"], "order": "both"}
    return JudgeConfig(**{**settings, "model": str(folder), **changes})
