"""The judge `similarity`: which answer is closer to the gold answer, by sentence embeddings. A proxy, named as such.

Score of an answer: cosine of its embedding with the gold answer's, negative values as 0; preference
1.5 + (score_2 - score_1) / 2. Embeddings are the mean over the last layer's tokens (what the MiniLM and MPNet
sentence models are trained for), of at most as many tokens as the model takes. Against the gold answers themselves
(judge.baseline=reference) the best possible result is a draw.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.config import JudgeConfig
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.judge.local_model import load, snapshot
from harness.judge.reference import from_scores

_BATCH = 16  # comparisons, three texts each


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
            embeddings_BTD = embed(tokenizer, model, texts).reshape(len(batch), 3, -1)
            scores_B2 = (embeddings_BTD[:, 1:] @ embeddings_BTD[:, 0, :, None])[..., 0].clamp(0, 1).tolist()
            seconds = (time.monotonic() - started) / len(batch)
            yield [
                (
                    start + row,
                    Verdict(from_scores(*scores), f"cosines {scores[0]:.6f}, {scores[1]:.6f}", 0.0, seconds, 1),
                )
                for row, scores in enumerate(scores_B2)
            ]


def embed(tokenizer: Any, model: Any, texts: Sequence[str]) -> Any:
    """Embeddings (N, D) of length 1: the mean over tokens, padding left out."""
    import torch

    limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt").to(
        model.device
    )
    with torch.inference_mode():
        hidden_NLD = model(**inputs).last_hidden_state
        mask_NL1 = inputs["attention_mask"][..., None].to(hidden_NLD.dtype)
        return torch.nn.functional.normalize(
            (hidden_NLD * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1), dim=-1
        ).double()
