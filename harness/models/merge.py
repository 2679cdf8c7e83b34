"""Merging an adapter and its base into whole weights on disk, for tools that read only those."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from harness.config import ModelConfig
from harness.models.adapters import merge_adapters, peft_warnings
from harness.models.load import load_model
from harness.models.place import cast
from harness.models.tokenizer import load_saved_tokenizer


def save_merged(config: ModelConfig, seed: int, adapter: Path, folder: Path, dtype: str | None = None) -> None:
    """W + (alpha / rank) B A of every adapted layer, computed in float32 and saved in `dtype` (None: the base's type).

    An adapter trained on a 4-bit base (qlora) is merged into the unquantised base, which it has not seen, so its
    outputs differ slightly from those in training.

    Args:
        config: of the base model.
        seed: of random initial weights.
        adapter: folder of the adapter.
        folder: to write.
    """
    from peft import PeftModel

    wide = config.model_copy(update={"dtype": "float32", "gradient_checkpointing": False})
    with peft_warnings():
        merged: Any = merge_adapters(PeftModel.from_pretrained(load_model(wide, seed), adapter))
    cast(merged, getattr(torch, dtype or config.dtype))
    merged.save_pretrained(folder)
    load_saved_tokenizer(adapter).save_pretrained(folder)
    if (adapter / "generation_config.json").exists():
        shutil.copy(adapter / "generation_config.json", folder)
