"""What of answering can be refused before training: the backend, and prompts that do not fit."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.config import Config, GenerateConfig
from harness.config.data import Prompt
from harness.data import EvalItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_backend(config: Config) -> None:
    """Whether generate.backend is there and can take the model that the run will have trained.

    Raises:
        ValueError: it is not installed, or does not know such a model.
    """
    if config.generate.backend == "engine":
        _check_engine(config)
    if config.generate.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "generate.backend=vllm: the package vllm is not installed "
            "(pip install 'noise-harness[vllm]' on a machine with a GPU); backend=auto needs nothing"
        )


def _check_engine(config: Config) -> None:
    from harness.generate.backends import supports_config
    from harness.models.meta import published_config

    if config.train.method == "qlora" or (config.train.method == "lora" and config.model.dtype != "float32"):
        raise ValueError(
            f"generate.backend=engine: train.method={config.train.method} on a base of less than 32 bits keeps its "
            "adapters beside it, which the engine does not know; use auto"
        )
    found = published_config(config.model)
    if found is not None and not supports_config(found):
        raise ValueError(f"generate.backend=engine: does not know model_type={found.model_type}; use auto")


def prompts_of(
    items: Sequence[EvalItem], tokenizer: PreTrainedTokenizerBase, prompt: Prompt, settings: GenerateConfig
) -> list[list[int]]:
    """What the model is given, in token ids: the prompt as trained, or with the line end of the papers' evaluation."""
    from harness.data.tokenize import encode_prompts

    return encode_prompts(items, tokenizer, prompt, settings.prompt == "alpaca_evaluation_newline")


def check_prompts(
    items: Sequence[EvalItem],
    prompts: Sequence[Sequence[int]],
    settings: GenerateConfig,
    model: str,
    positions: int | None,
) -> str | None:
    """Hold the prompts' lengths against generate.max_length and the model's positions.

    Returns:
        How many answers will get fewer tokens than generate.max_new_tokens, if any.

    Raises:
        ValueError: a prompt without a token, or one that leaves no room for an answer, naming it and its length.
    """
    limit = settings.max_length if positions is None else min(settings.max_length, positions)
    ours = limit == settings.max_length
    what = f"generate.max_length={limit}" if ours else f"model={model} has positions for {limit} tokens"
    lengths = [len(prompt) for prompt in prompts]
    for number, (item, length) in enumerate(zip(items, lengths, strict=True), start=1):
        if not length:
            raise ValueError(f"eval_set: instruction {number} is empty and dataset.prompt=none adds nothing to it")
        if length >= limit:
            over, longest = sum(each >= limit for each in lengths), max(lengths)
            fits = ours and (positions is None or longest < positions)
            advice = (
                f"set it to at least {longest + 1}" if fits else "leave those instructions out, or take another model"
            )
            raise ValueError(
                f"{what}: the prompt of eval_set's instruction {number} ({item.text[:50]!r}) has {length} tokens, "
                f"which leaves no room for an answer; {over} of {len(prompts)} prompts do not fit, the longest has "
                f"{longest} tokens: {advice}"
            )
    short = sum(limit - length < settings.max_new_tokens for length in lengths)
    if not short or (ours and settings.max_new_tokens >= limit):  # as the papers have it: max_length alone counts
        return None
    return f"{short} of {len(prompts)} answers have room for less than generate.max_new_tokens: {what}"
