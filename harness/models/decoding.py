"""generation_config.json of a trained model, so that it decodes as in its evaluation."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from harness.config import GenerateConfig


def generation_config(settings: GenerateConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Greedy decoding with the evaluation's penalty and limits, ending at the tokenizer's end-of-text token.

    max_new_tokens is set only if it is the tighter limit, because transformers ignores max_length next to it. vLLM
    reads the penalty but not do_sample, so it must be asked with temperature 0; a temperature or top_k here would keep
    transformers from saving the model again.
    """
    found: dict[str, Any] = {
        "do_sample": False,
        "repetition_penalty": settings.repetition_penalty,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    }
    tighter = "max_new_tokens" if settings.max_new_tokens < settings.max_length else "max_length"
    return {key: value for key, value in found.items() if value is not None} | {tighter: getattr(settings, tighter)}
