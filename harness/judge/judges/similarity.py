"""The judge `similarity`: which answer is closer to the gold answer, by sentence embeddings. A proxy, named as such.

Score of an answer: cosine of its embedding with the gold answer's, negative values as 0; preference
1.5 + (score_2 - score_1) / 2. Embeddings are the mean over the last layer's tokens (what the MiniLM and MPNet
sentence models are trained for), of at most as many tokens as the model takes. Against the gold answers themselves
(judge.baseline=reference) the best possible result is a draw.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.config import JudgeConfig
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.judge.judges.local_model import load, positions, snapshot
from harness.judge.judges.reference import from_scores

_BATCH = 16  # comparisons stored together, up to three texts each
_TOGETHER = 8  # texts in one forward pass


class SimilarityJudge(NoBudget):
    """No order: a score does not depend on what it is compared with."""

    free = False

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self.orders: tuple[bool, ...] | None = (False,)
        self.identity = Identity(f"{config.name}_proxy", snapshot(config))

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield a batch at a time.

        Raises:
            ValueError: the model is not here.
        """
        from transformers import AutoModel

        tokenizer, model = load(AutoModel, self._config)
        for start in range(0, len(comparisons), _BATCH):
            started, batch = time.monotonic(), comparisons[start : start + _BATCH]
            texts = [text for each in batch for text in (each.gold, each.output_1, each.output_2)]
            embeddings = embed_each(tokenizer, model, texts)
            verdicts = [_verdict(embeddings, each) for each in batch]
            seconds = (time.monotonic() - started) / len(batch)
            yield [(start + row, replace(verdict, seconds=seconds)) for row, verdict in enumerate(verdicts)]


def _verdict(embeddings: dict[str, Any], comparison: Comparison) -> Verdict:
    gold_D = embeddings[comparison.gold]
    answers = (comparison.output_1, comparison.output_2)
    first, second = (min(max(float(embeddings[text] @ gold_D), 0.0), 1.0) for text in answers)
    return Verdict(from_scores(first, second), f"cosines {first:.6f}, {second:.6f}", calls=1)


def embed_each(tokenizer: Any, model: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Embedding (D,) of each distinct text, in batches of similar length, because padding costs time."""
    distinct = sorted(set(texts), key=len)
    groups = [distinct[start : start + _TOGETHER] for start in range(0, len(distinct), _TOGETHER)]
    return {text: row_D for group in groups for text, row_D in zip(group, embed(tokenizer, model, group), strict=True)}


def embed(tokenizer: Any, model: Any, texts: Sequence[str]) -> Any:
    """Embeddings (N, D) of norm 1: the mean over tokens without padding."""
    import torch

    limit = min(tokenizer.model_max_length, positions(model) or tokenizer.model_max_length)
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
    inputs = tokens.to(model.device)
    with torch.inference_mode():
        hidden_NLD = model(**inputs).last_hidden_state
        mask_NL1 = inputs["attention_mask"][..., None].to(hidden_NLD.dtype)
        mean_ND = (hidden_NLD * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean_ND, dim=-1).double()
