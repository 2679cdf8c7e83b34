"""A batch, and the loss of its noised embeddings without any hook."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from harness.noise import Noise, noise_generators, perturb

Batch = dict[str, Tensor]


def by_hand(model: PreTrainedModel, batch: Batch, noise: Noise, seed: int, step: int) -> Tensor:
    """The loss of noised embeddings, put together without any hook."""
    keys = [(0, 0, row) for row in range(2)]
    embeddings = perturb(
        model.get_input_embeddings()(batch["input_ids"]),
        batch["attention_mask"],
        noise,
        noise_generators(seed, step, keys),
        labels=batch["labels"],
    )
    twice = {key: batch[key].repeat(noise.halves, 1) for key in ("attention_mask", "labels")}
    loss: Tensor = model(inputs_embeds=embeddings, **twice).loss
    return loss
