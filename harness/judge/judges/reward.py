"""The judge `reward`: a reward model scores each answer; P(output_2 is better) = sigmoid(r_2 - r_1), Bradley-Terry.

Any sequence-classification model with one output, from a folder or the Hub. Its chat template is used if it has
one; otherwise instruction and answer are a pair of texts, as for OpenAssistant's reward models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.config import JudgeConfig
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.judge.judges.local_model import chat_ids, fits, load, load_config, load_tokenizer, snapshot


class RewardJudge(NoBudget):
    """Two forward passes per comparison, no order."""

    free = False

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self.orders: tuple[bool, ...] | None = (False,)
        self.identity = Identity(config.name, snapshot(config))

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield one verdict at a time; without a preference if an answer is longer than the model's positions.

        Raises:
            ValueError: the model is not here, or has another number of outputs than one.
        """
        from transformers import AutoModelForSequenceClassification

        tokenizer, model = load(AutoModelForSequenceClassification, self._config)
        _check_outputs(self._config, model.config.num_labels)
        for position, comparison in enumerate(comparisons):
            started = time.monotonic()
            answers = (comparison.output_1, comparison.output_2)
            rewards = [_reward(tokenizer, model, comparison.instruction, answer) for answer in answers]
            yield [(position, _verdict(rewards, time.monotonic() - started))]


def check_reward(config: JudgeConfig) -> None:
    """Check the judge's tokenizer and config, possibly from the Hub.

    Raises:
        ValueError: the model is not here, or has another number of outputs than one.
    """
    load_tokenizer(config)
    _check_outputs(config, load_config(config).num_labels)


def _check_outputs(config: JudgeConfig, outputs: int) -> None:
    if outputs != 1:
        raise ValueError(f"judge.model={config.model}: {outputs} outputs, expected one reward")


def _verdict(rewards: Sequence[float | None], seconds: float) -> Verdict:
    first, second = rewards
    if first is None or second is None:
        return Verdict(None, "instruction and answer are too long", 0.0, seconds, 1)
    return Verdict(1.0 + _sigmoid(second - first), f"rewards {first:.6f}, {second:.6f}", 0.0, seconds, 1)


def _reward(tokenizer: Any, model: Any, instruction: str, answer: str) -> float | None:
    import torch

    if tokenizer.chat_template:
        turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
        inputs = {"input_ids": chat_ids(tokenizer, turns, reply_follows=False)}
    else:
        inputs = dict(tokenizer(instruction, answer))
    if not fits(model, inputs["input_ids"]):
        return None
    with torch.inference_mode():
        tensors = {key: torch.tensor([value], device=model.device) for key, value in inputs.items()}
        return float(model(**tensors).logits[0, 0])


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
