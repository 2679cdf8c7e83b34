"""What embedding noise does to the gradient of a batch: even part, odd part, and the sampling noise beside them.

g(e) is the gradient of a batch's mean loss per response token by the weights, with e added to the embeddings.

    E(e) = (g(e) + g(-e)) / 2 - g(0)    even: the curvature term, gradient of e'He / 2, which the papers mean
    O(e) = (g(e) - g(-e)) / 2           odd: of first order, of mean zero, which the pair cancels

One-sided noise trains on g(0) + E + O, the pair on g(0) + E, two draws on the mean of two of the former. What the pair
saves, the mean of |O|^2, is held against the variance that a batch has anyway because it holds these documents and no
others. Both fall as 1 / batch size, so that their ratio does not depend on it.

Batches come in twos of different documents, which makes every figure unbiased: for two batches 1 and 2 with gradients
g1, g2, |g1 - g2|^2 / 2 has the mean of the sampling variance, <g1, g2> that of the squared gradient of the whole data,
and <E1, E2> that of the squared systematic even part. All are exact inner products over all weights; six gradients
exist at a time. Intervals resample the twos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config import GradientConfig
from harness.data.batching import Document, micro_batches
from harness.noise import Noise, input_embedding
from harness.probe.smoothness.surface import probing
from harness.probe.summary import Figure, ratio_figure
from harness.train.loss import ResponseLoss
from harness.train.noise import TrainingNoise

Row = dict[str, Any]
Gradient = list[Tensor]


class BatchGradient(Protocol):
    """Loss (nats per response token) and gradient of one batch, without noise or with a draw of it."""

    def __call__(self, alpha: float = 0.0, draw: int = 0, sign: int = 1) -> tuple[float, Gradient]:
        """At X + sign e, e the draw of that number at that alpha; a new list each time."""


def rows_of_twos(
    twos: Sequence[tuple[BatchGradient, BatchGradient]],
    alphas: Sequence[float],
    draws: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """One row for each two batches: squared norms and inner products, keys as `figures_of` reads them."""
    rows = []
    for number, two in enumerate(twos):
        rows.append(_row(two, alphas, draws) | {"two": number})
        progress()
    return rows


def _row(two: tuple[BatchGradient, BatchGradient], alphas: Sequence[float], draws: int) -> Row:
    losses, (first, second) = zip(*(each() for each in two), strict=True)
    row = {
        "loss": sum(losses) / 2,
        "sampling": _squared(first, second, -1.0) / 2,
        "squared_gradient": _dot(first, second),
    }
    for alpha in alphas:
        parts = [_even_and_odd(each, clean, alpha, draws) for each, clean in zip(two, (first, second), strict=True)]
        row[f"odd/{alpha:g}"] = sum(part["odd"] for part, _ in parts) / 2
        row[f"loss/{alpha:g}"] = sum(part["loss"] for part, _ in parts) / 2
        if draws > 1:
            row[f"even_noise/{alpha:g}"] = sum(part["even_noise"] for part, _ in parts) / 2
        (_, even_1), (_, even_2) = parts
        row[f"even/{alpha:g}"] = _dot(even_1, even_2)
        row[f"even_along/{alpha:g}"] = (_dot(even_1, second) + _dot(even_2, first)) / 2
    return row


def _even_and_odd(gradient: BatchGradient, clean: Gradient, alpha: float, draws: int) -> tuple[Row, Gradient]:
    """Means over the draws of |O|^2 and of the loss, the variance of E between draws, and the mean of E."""
    odd = loss = squares = 0.0
    total = [torch.zeros_like(each) for each in clean]
    for draw in range(draws):
        (loss_plus, plus), (loss_minus, minus) = (gradient(alpha, draw, sign) for sign in (1, -1))
        odd += _squared(plus, minus, -1.0) / 4 / draws
        loss += (loss_plus + loss_minus) / 2 / draws
        for one, other, without in zip(plus, minus, clean, strict=True):
            one.add_(other).div_(2).sub_(without)
        squares += _dot(plus, plus)
        for part, one in zip(total, plus, strict=True):
            part.add_(one)
    found = {"odd": odd, "loss": loss}
    if draws > 1:
        found["even_noise"] = (squares - _dot(total, total) / draws) / (draws - 1)
    return found, [part.div_(draws) for part in total]


def _dot(one: Gradient, other: Gradient) -> float:
    """Summed in float64 over slices: no copy of a whole weight matrix in float64."""
    return sum(
        float(torch.dot(a.double(), b.double()))
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left.flatten().split(2**20), right.flatten().split(2**20), strict=True)
    )


def _squared(one: Gradient, other: Gradient, sign: float) -> float:
    """|one + sign other|^2."""
    return sum(
        float((a.double() + sign * b.double()).square().sum())
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left.flatten().split(2**20), right.flatten().split(2**20), strict=True)
    )


def figures_of(rows: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, Figure]:
    """Figures `prefix/MEASURE[/ALPHA]` with intervals over the twos; a share is a ratio of two means."""
    column = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "two"}
    one = np.ones(len(rows))
    found = {f"{prefix}/{key}": ratio_figure(column[key], one) for key in ("loss", "sampling", "squared_gradient")}
    for key in (key for key in column if "/" in key):
        measure, _, alpha = key.partition("/")
        if measure == "loss":
            found[f"{prefix}/loss_rise/{alpha}"] = ratio_figure(column[key] - column["loss"], one)
            continue
        found[f"{prefix}/{key}"] = ratio_figure(column[key], one)
        below = "sampling" if measure in ("odd", "even_noise") else "squared_gradient"
        found[f"{prefix}/{measure}_share/{alpha}"] = ratio_figure(column[key], column[below])
    return found


def gradient_noise(
    model: PreTrainedModel,
    documents: Sequence[Document],
    settings: GradientConfig,
    seed: int,
    max_tokens: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """The rows of a model, in evaluation mode and float32: twos of batches of documents in a shuffled order.

    Args:
        documents: of training.
        settings: how many twos, documents in a batch, draws, alphas; fewer twos where documents run out.
        seed: of the order of the documents and of the noise, the same for every run.
        max_tokens: of one forward pass.
    """
    size = settings.batch_size
    order = np.random.default_rng(seed).permutation(len(documents))[: 2 * size * settings.twos]
    batches = [[documents[place] for place in order[start : start + size]] for start in range(0, len(order), size)]
    batches = [batch for batch in batches if len(batch) == size]
    with probing(model) as objective, _asking_for_gradients(objective.model):
        gradients = [ModelGradient(objective, batch, settings, seed, max_tokens) for batch in batches]
        twos = list(zip(gradients[::2], gradients[1::2], strict=False))
        return rows_of_twos(twos, settings.alphas, settings.draws, progress)


@contextmanager
def _asking_for_gradients(model: PreTrainedModel) -> Iterator[None]:
    """Of all weights, whatever was trained or frozen; those in 4 bits can have none."""
    asked = [(each, each.requires_grad) for each in model.parameters() if each.is_floating_point()]
    for parameter, _ in asked:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)
            parameter.grad = None


class ModelGradient:
    """`BatchGradient` of a model. The noise is keyed by (seed, draw, document)."""

    def __init__(
        self,
        objective: ResponseLoss,
        documents: Sequence[Document],
        settings: GradientConfig,
        seed: int,
        max_tokens: int,
    ) -> None:
        self.objective, self.seed, self.settings = objective, seed, settings
        self.batches = micro_batches(documents, layout="padded", max_tokens=max_tokens)

    def __call__(self, alpha: float = 0.0, draw: int = 0, sign: int = 1) -> tuple[float, Gradient]:
        model = self.objective.model
        targets = sum(batch.n_targets for batch in self.batches)
        noise = Noise(self.settings.distribution, alpha, self.settings.scale, "antithetic")
        source = TrainingNoise(noise, self.seed, input_embedding(model))
        loss = 0.0
        for batch in self.batches:
            batch = batch.to(model.device)
            perturb = source.of(batch, draw).perturbation((0 if sign > 0 else 1,)) if alpha else None
            mean = self.objective(batch, perturb=perturb)[0] / targets
            mean.backward()
            loss += float(mean.detach())
        return loss, list(self._taken())

    def _taken(self) -> Iterator[Tensor]:
        for parameter in (each for each in self.objective.model.parameters() if each.requires_grad):
            yield torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = None
