"""Checks of generation before training: the backend, and prompts that do not fit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from harness.config import Config, DatasetConfig, EvalSetConfig, GenerateConfig, ModelConfig
from harness.config.data import Prompt
from harness.context import Job
from harness.data import EvalItem, check_eval_set, load_eval_items
from harness.models.checks import check_model
from harness.system.packages import require_package

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check(config: Config) -> None:
    """The instructions, the backend, and the base model where only an adapter was saved.

    Raises:
        ValueError: as `load_eval_items`, `check_backend` and `check_model`.
    """
    if config.train.method != "full":
        check_model(config.model, fetch=not config.harness.dry_run)
    check_eval_set(config)
    check_backend(config)


def prepare(jobs: Sequence[Job]) -> list[str]:
    """Check the prompts of models that are still to be trained against the limits.

    Raises:
        ValueError: as `check_prompts`.
    """
    pending = [job.config for job in jobs if {"train", "generate"} <= set(job.pending)]
    return [line for each in pending for line in _prompts(each.dataset, each.model, each.eval_set, each.generate)]


@cache
def _prompts(
    dataset: DatasetConfig, model: ModelConfig, eval_set: EvalSetConfig, settings: GenerateConfig
) -> list[str]:
    from harness.models.tokenizer import load_tokenizer, positions

    items = load_eval_items(eval_set)
    prompts = prompts_of(items, load_tokenizer(model), dataset.prompt, settings)
    note = check_prompts(items, prompts, settings, model.name, positions(model))
    return [f"generate: {note}"] if note else []


def check_backend(config: Config) -> None:
    """Check that generate.backend is installed and supports the model that the run will train.

    Raises:
        ValueError: it is not installed, or does not know such a model.
    """
    if config.generate.backend == "engine":
        _check_engine(config)
    if config.generate.backend == "vllm":
        _check_vllm(config)


def _check_vllm(config: Config) -> None:
    if config.train.method == "qlora":
        raise ValueError(
            "generate.backend=vllm: train.method=qlora answers with a 4-bit base, which vLLM would read in 16 bits; "
            "use auto"
        )
    if config.generate.python is not None:
        _check_interpreter(config.generate.python)
    else:
        hint = "or name in generate.python the interpreter of an environment that has it; backend=auto needs nothing"
        require_package("vllm", "generate.backend=vllm", "vllm", hint)


def _check_interpreter(python: str) -> None:
    asked = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('vllm') else 9)"
    try:
        status = subprocess.run([python, "-c", asked], capture_output=True, timeout=60, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"generate.python={python}: cannot be run: {error}") from None
    if status:
        raise ValueError(f"generate.python={python}: the package vllm is not installed there")


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
    """What the model is given, in token ids: the prompt as trained, or with the line end of the papers' evaluation.

    A question whose earlier answers are not there yet stands behind a short one in the place of each.
    """
    from harness.data.tokenize import ANY_ANSWER, tokenize_prompts

    items = [
        replace(item, history=tuple((question, ANY_ANSWER) for question in item.earlier))
        if item.earlier and not item.history
        else item
        for item in items
    ]
    return tokenize_prompts(items, tokenizer, prompt, settings.prompt == "alpaca_evaluation_newline")


def check_prompts(
    items: Sequence[EvalItem],
    prompts: Sequence[Sequence[int]],
    settings: GenerateConfig,
    model: str,
    positions: int | None,
) -> str | None:
    """Check the prompts' lengths against generate.max_length and the model's positions.

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
    if not short or (ours and settings.max_new_tokens >= limit):  # as in the papers: only max_length counts
        return None
    return f"{short} of {len(prompts)} answers have room for less than generate.max_new_tokens: {what}"
