"""A trained model on disk: weights or adapter, config and tokenizer in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from harness.models.adapters import is_adapted
from harness.record import commit_folder, write_json


def save_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
    generation: dict[str, Any] | None = None,
) -> None:
    """Write weights or the adapter (safetensors), config and tokenizer; the folder appears whole or not at all.

    Args:
        model: a transformers model, or one that PEFT wraps.
        tokenizer: of the model.
        folder: to write.
        weights: whole weights, if the model holds shards; None: the model's own.
        generation: contents of generation_config.json; None: the model's own.
    """
    with commit_folder(folder) as temporary:
        if is_adapted(model):
            # "auto" would ask the Hub whether the embedding was resized; it never is here.
            model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
            # PEFT's empty template; harness.export writes a real card.
            (temporary / "README.md").unlink(missing_ok=True)
        else:
            model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        if generation is not None:
            write_json(temporary / "generation_config.json", generation)
