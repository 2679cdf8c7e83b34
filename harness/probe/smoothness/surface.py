"""Loss and logits of documents as functions of what is added to their embeddings.

B documents, one a row (padded); T tokens of a row, D hidden size, N positions that have a target, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from harness.data.batching import IGNORE_INDEX, Batch, Document, micro_batches
from harness.models.attention import SEGMENTS
from harness.models.onednn import fast_linear
from harness.noise import input_embedding
from harness.train.loss import ResponseLoss


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions at the positions with targets.

    Attributes:
        logits: (N, V), float32 or wider.
        targets: (N,), the correct tokens.
        rows: (N,), the row (document) of each position.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor

    def losses(self) -> Tensor:
        """Cross-entropies in nats; differentiable as often as the logits are."""
        return functional.cross_entropy(self.logits, self.targets, reduction="none")

    def mean_by_row(self, values_N: Tensor, rows: int) -> Tensor:
        """(B,) means over each document's positions."""
        sums = values_N.new_zeros(rows).index_add(0, self.rows, values_N)
        return sums / self.rows.bincount(minlength=rows)


class Surface:
    """A model's predictions for a batch as a function of what is added to its embeddings, all else fixed.

    The perturbation is added to the output of `get_input_embeddings()`, like the noise in training.
    """

    def __init__(self, objective: ResponseLoss, batch: Batch) -> None:
        assert batch.layout == "padded"
        self.objective, self.batch = objective, batch.to(objective.model.device)

    @property
    def rows(self) -> int:
        return len(self.batch.documents)

    def zeros(self) -> Tensor:
        """(B, T, D): no perturbation."""
        embedding: Any = input_embedding(self.objective.model)
        shape = (*self.batch.input_ids.shape, embedding.embedding_dim)
        return torch.zeros(shape, dtype=self.objective.model.dtype, device=self.objective.model.device)

    def predictions(self, added_BTD: Tensor | None = None) -> Predictions:
        """The predictions at X + added, at X for None."""
        perturb = None if added_BTD is None else lambda embeddings_BTD: embeddings_BTD + added_BTD
        logits_NV, targets_N = self.objective(self.batch, perturb=perturb, logits=True)
        rows_N = (self.batch.targets != IGNORE_INDEX).nonzero()[:, 0]
        return Predictions(logits_NV, targets_N, rows_N)

    def losses(self, added_BTD: Tensor | None = None) -> Tensor:
        """(B,) each document's mean cross-entropy per response token, in nats, at X + added."""
        predictions = self.predictions(added_BTD)
        return predictions.mean_by_row(predictions.losses(), self.rows)


def surfaces(objective: ResponseLoss, documents: Sequence[Document], max_tokens: int) -> Iterator[Surface]:
    """The documents in batches of similar length, longest first."""
    for batch in micro_batches(documents, layout="padded", max_tokens=max_tokens) if documents else ():
        yield Surface(objective, batch)


@contextmanager
def probing(model: PreTrainedModel) -> Iterator[ResponseLoss]:
    """The model ready for probing: in evaluation mode (no noise, no dropout) and float32.

    A model in half precision is copied; otherwise it is the model itself, and its mode and attention (packed during
    training) are restored.
    """
    wide = all(each.dtype in (torch.float32, torch.float64) for each in model.parameters())
    probed = model if wide else copy.deepcopy(model).float()
    was_training, attention = probed.training, probed.config._attn_implementation
    probed.eval()
    try:
        with _attending(probed, "sdpa" if attention == SEGMENTS else attention), fast_linear(probed):
            yield ResponseLoss(probed)
    finally:
        probed.train(was_training)


@contextmanager
def twice_differentiable(model: PreTrainedModel) -> Iterator[None]:
    """Attention in plain operations, because the fused kernels have no second derivative.

    And weights without gradients, which saves a third of what the first derivative's graph keeps for the second.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with _attending(model, "eager"):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _attending(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    before = model.config._attn_implementation
    if implementation == before:  # models without the choice may have no setter
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
