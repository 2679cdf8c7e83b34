"""How strong a noise is in a model: norm of a document's noise over the norm of its embeddings, without training.

L tokens of a document, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from harness.config import Config
from harness.data.batching import Document
from harness.data.documents import load_documents
from harness.models.load import load_model
from harness.models.tokenizer import load_tokenizer
from harness.noise import Noise, input_embedding, noise_generators, perturb, realised_noise
from harness.noise.tokens import Tokens
from harness.train.noise import noise_of

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class NoiseRatios:
    """Of each document.

    Attributes:
        ratio: (n,), at alpha 1; a ratio is proportional to alpha.
        embedding: (n,), L2 norm of all its embeddings.
        token: (n,), mean L2 norm of its token embeddings.
        lengths: (n,), tokens.
        per_alpha: whether alpha decides the size; false for dropout and none.
    """

    ratio: np.ndarray
    embedding: np.ndarray
    token: np.ndarray
    lengths: np.ndarray
    per_alpha: bool

    def at(self, alpha: float) -> np.ndarray:
        """(n,) ratios at this alpha."""
        return self.ratio * alpha if self.per_alpha else self.ratio

    def alpha_for(self, ratio: float) -> float:
        """The alpha that gives the median document this ratio."""
        return float(ratio / np.median(self.ratio))


@torch.no_grad()
def noise_ratios(config: Config, limit: int) -> NoiseRatios:
    """Of the first training documents, with the weights before training, each with one draw at its own length.

    Args:
        config: its model, dataset, noise and seed count; a schedule does not.
        limit: documents at most.
    """
    embedding = input_embedding(load_model(config.model, config.seed))
    special_ids = torch.tensor(load_tokenizer(config.model).all_special_ids)
    noise = replace(noise_of(config), alpha=1.0, pair="none", schedule="constant", length="true")
    documents = load_documents(config.dataset, config.model).train[:limit]
    return ratios_of(embedding, documents, noise, special_ids, config.seed)


def ratios_of(
    embedding: nn.Module, documents: Sequence[Document], noise: Noise, special_ids: Tensor, seed: int
) -> NoiseRatios:
    """As `noise_ratios`, of documents and a noise at hand."""
    rows = []
    for document in documents:
        ids_1L = torch.from_numpy(document.input_ids.astype(np.int64))[None]
        labels_1L = torch.from_numpy(document.labels.astype(np.int64))[None]
        before_1LD, mask_1L = embedding(ids_1L), torch.ones_like(ids_1L)
        generators = noise_generators(seed, 0, [document.index])
        special_1L = torch.isin(ids_1L, special_ids)
        after_1LD = perturb(before_1LD, mask_1L, noise, generators, None, labels_1L, special_1L)
        found = realised_noise(before_1LD[None], after_1LD[None], Tokens(mask_1L))
        norm_L = before_1LD[0].double().norm(dim=-1)
        rows.append((float(found.ratio), float(norm_L.norm()), float(norm_L.mean()), len(document)))
    ratio, whole, token, lengths = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return NoiseRatios(ratio, whole, token, lengths, noise.distribution not in ("dropout", "none"))
