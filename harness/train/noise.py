"""The noise of our own loop: for each micro-batch, a function from its embeddings to the perturbed ones.

B rows, T tokens of a row, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.data.batching import Batch
from harness.noise import Noise, noise_generators
from harness.noise.perturbation import apply_noise
from harness.noise.statistics import NoiseStatistics, Stopwatch, realised_noise
from harness.noise.tokens import Tokens

if TYPE_CHECKING:
    from harness.config import Config  # needs pydantic, which benchmarks.gpu does without

# The argument `perturb` of `harness.train.loss.ResponseLoss`: (B, T, D) -> (B, T, D).
Perturbation = Callable[[Tensor], Tensor]


def noise_of(config: Config) -> Noise:
    """The noise of a run's settings; R-Drop's two draws are an independent pair of it."""
    axes = config.noise.model_dump(include={each.name for each in fields(Noise)})
    if config.noise.method == "rdrop":
        axes["pair"] = "independent"
    return Noise(alpha=config.alpha, **axes)


class TrainingNoise:
    """The noise of one training, made once.

    Attributes:
        measure: whether to measure the noise of the next passes into `last`.
        last: the noise that arrived in the last measured pass.
        stopwatch: time to draw and add the noise, without measuring it.
        alpha: strength in the last micro-batch, after the schedule (for "dropout" the rate).
    """

    def __init__(
        self,
        noise: Noise,
        seed: int,
        embedding: nn.Module,
        special_ids: Tensor | None = None,
        stream: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            seed: seed of the run.
            embedding: the model's input embedding, for shape, dtype and device of a drawn perturbation.
            special_ids: token ids that `special_tokens=False` excludes, in main memory.
            stream: keeps these draws independent of another method's with the same seed, see `Method.noise_stream`.
        """
        self.noise, self.seed, self.stream = noise, seed, stream
        self.embedding, self.special_ids = embedding, special_ids
        self.measure = False
        self.last: NoiseStatistics | None = None
        self.stopwatch = Stopwatch()
        self.alpha = 0.0

    def of(self, batch: Batch, step: int, progress: float | None = None) -> BatchNoise:
        """The noise of a micro-batch.

        Args:
            step: optimiser step, from 0.
            progress: fraction of training done, for a schedule.
        """
        self.alpha = self.noise.strength(progress)
        return BatchNoise(self, batch, step, self.alpha)


class BatchNoise:
    """The noise of one micro-batch in one step; every call gives the same noise.

    Attributes:
        alpha: current strength, after the schedule.
        halves: rows trained on for each document, 2 for a pair.
    """

    def __init__(self, source: TrainingNoise, batch: Batch, step: int, alpha: float) -> None:
        self._source, self._batch, self._step = source, batch, step
        self.alpha, self.halves = alpha, source.noise.halves

    def perturbation(self, halves: Sequence[int] = (0,)) -> Perturbation | None:
        """A function that adds the noise; None if there is none, so that the model embeds its tokens itself.

        Args:
            halves: (0,) for one-sided noise, or the halves of a pair that the rows hold, one after the other.
        """
        if self._source.noise.distribution == "none":
            if self._source.measure:
                self._source.last = NoiseStatistics.none(len(halves), len(self._batch.documents))
            return None
        return lambda embeddings_BTD: self._noised(embeddings_BTD, halves)

    def adding(self, added_BTD: Tensor | None) -> Perturbation | None:
        """A function that adds this tensor, with gradients, instead of the noise; None for None."""
        return None if added_BTD is None else lambda embeddings_BTD: self._added(embeddings_BTD, added_BTD)

    def draw(self) -> Tensor:
        """The (first) noise itself, (B, T, D) in float32 or wider, zero at padding: the start of an ascent.

        Raises:
            ValueError: a noise whose size depends on the embeddings, which are not known here.
        """
        if self._source.noise.scale == "relative":
            raise ValueError("noise.scale=relative: this method draws its noise before it has embeddings; take raw")
        # The width from the weights: PEFT's layers around an embedding have no embedding_dim.
        weight: Any = self._source.embedding.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        # On the batch's device: with cpu_offload the weights are on another device than the embeddings will be.
        ids_BT = self._batch.input_ids
        zeros_BTD = torch.zeros(*ids_BT.shape, weight.shape[-1], dtype=dtype, device=ids_BT.device)
        return self._apply(zeros_BTD[None], (0,))[0].clone()

    def _noised(self, before_BTD: Tensor, halves: Sequence[int]) -> Tensor:
        before_HBTD = before_BTD.unflatten(0, (len(halves), -1))
        with self._source.stopwatch.running(before_BTD.device):
            after_HBTD = self._apply(before_HBTD, halves)
        self._measure(before_HBTD, after_HBTD)
        return after_HBTD.flatten(0, 1)

    def _added(self, before_BTD: Tensor, added_BTD: Tensor) -> Tensor:
        after_BTD = before_BTD + added_BTD.to(before_BTD.dtype)
        self._measure(before_BTD[None], after_BTD[None])
        return after_BTD

    def _apply(self, before_HBTD: Tensor, halves: Sequence[int]) -> Tensor:
        source, documents = self._source, self._batch.documents
        keys = documents if source.stream is None else [(document, source.stream) for document in documents]
        generators = noise_generators(source.seed, self._step, keys, before_HBTD.device)
        return apply_noise(before_HBTD, self._tokens, source.noise, generators, self.alpha, halves)

    def _measure(self, before_HBTD: Tensor, after_HBTD: Tensor) -> None:
        if self._source.measure:
            self._source.last = realised_noise(before_HBTD, after_HBTD, self._tokens)

    @cached_property
    def _tokens(self) -> Tokens:
        batch, special_ids = self._batch.host or self._batch, self._source.special_ids
        special = None if special_ids is None else torch.isin(batch.input_ids, special_ids)
        return Tokens(batch.attention_mask, batch.document_ids, batch.labels, special)
