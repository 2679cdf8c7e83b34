"""The judge `local_lm`: a causal language model on this machine picks the better answer; no API, no sampling.

P(second) = p(second label) / (p(first label) + p(second label)) of the next token after the prompt, with and without a
leading space. A small model has a strong position bias: ask in both orders (judge.order=both) and look at
`python -m harness.judge audit` before believing it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.config import JudgeConfig
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict, content_hash
from harness.judge.judges.local_model import chat_ids, fits, load, load_tokenizer, snapshot
from harness.judge.judges.prompting import fill


class LocalLMJudge(NoBudget):
    """One forward pass per comparison and order."""

    free = False

    def __init__(self, config: JudgeConfig) -> None:
        assert config.prompt is not None
        assert config.labels is not None
        self._config, self._prompt, self._labels = config, config.prompt, config.labels
        self.orders: tuple[bool, ...] | None = (False, True) if config.order == "both" else None
        prompt = content_hash(self._prompt, *self._labels)
        self.identity = Identity(config.name, snapshot(config), prompt)

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield one verdict at a time; none for a prompt longer than the model's positions.

        Raises:
            ValueError: the model is not available, or a label is not a single token.
        """
        from transformers import AutoModelForCausalLM

        tokenizer, model = load(AutoModelForCausalLM, self._config)
        label_ids = [single_tokens(tokenizer, label) for label in self._labels]
        for position, comparison in enumerate(comparisons):
            started = time.monotonic()
            ids = _prompt_ids(tokenizer, fill(self._prompt, comparison))
            if not fits(model, ids):
                yield [(position, Verdict(None, f"prompt of {len(ids)} tokens is too long", calls=1))]
                continue
            probability = _second_probability(model, ids, label_ids)
            seconds = time.monotonic() - started
            preference = comparison.preference_of_second(probability)
            yield [(position, Verdict(preference, f"P(second) = {probability:.6f}", 0.0, seconds, 1))]


def check_labels(config: JudgeConfig) -> None:
    """Check the judge's tokenizer, possibly from the Hub.

    Raises:
        ValueError: the model is not here, or a label is no single token of it.
    """
    tokenizer = load_tokenizer(config)
    for label in config.labels or ():
        single_tokens(tokenizer, label)


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of the prompt: as a user's message if the model has a chat template, else as plain text."""
    if tokenizer.chat_template:
        return chat_ids(tokenizer, [{"role": "user", "content": prompt}], reply_follows=True)
    return list(tokenizer(prompt)["input_ids"])


def _second_probability(model: Any, ids: list[int], label_ids: list[list[int]]) -> float:
    import torch

    with torch.inference_mode():
        logits_V = model(torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1].double()
        first, second = (torch.logsumexp(logits_V[tokens], 0) for tokens in label_ids)
    return float(torch.sigmoid(second - first))


def single_tokens(tokenizer: Any, label: str) -> list[int]:
    """Ids of the label as one token, with and without a leading space."""
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (label, " " + label)]
    single = sorted({ids[0] for ids in encoded if len(ids) == 1})
    if not single:
        raise ValueError(f"judge.labels: {label!r} is not a single token of this model")
    return single
