"""generation_config.json of a trained model, so that it decodes as in its evaluation."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from harness.config import GenerateConfig


def generation_config(settings: GenerateConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Decoding with the evaluation's temperature, penalty and limits, ending at the tokenizer's end-of-text token.

    max_new_tokens stands there only where it is the tighter limit: transformers takes no notice of max_length beside
    it. vLLM reads the penalty and no do_sample, so after greedy runs it must be asked with temperature 0; a temperature
    beside do_sample=false would keep transformers from saving the model again. top_k=0 is none: transformers' own
    default is 50.
    """
    drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    found: dict[str, Any] = {
        "do_sample": settings.temperature > 0,
        **(drawn if settings.temperature > 0 else {}),
        "repetition_penalty": settings.repetition_penalty,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    }
    tighter = "max_new_tokens" if settings.max_new_tokens < settings.max_length else "max_length"
    return {key: value for key, value in found.items() if value is not None} | {tighter: getattr(settings, tighter)}
