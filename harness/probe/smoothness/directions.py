"""Random directions that are the same for every run: keyed by the probe's seed, the document and a number.

B documents, one a row; T tokens of a row, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.noise import noise_generators
from harness.noise.distributions import draw

# Part of the key, so that directions of different distributions and of the Hessian's probes are independent.
_PURPOSE = {"rademacher": 0, "gaussian": 1, "trace": 2, "power": 3}
_DISTRIBUTION = {"rademacher": "rademacher", "gaussian": "gaussian", "trace": "rademacher", "power": "gaussian"}


def direction(
    purpose: str, number: int, documents: Sequence[int], lengths: Sequence[int], like: Tensor, seed: int
) -> Tensor:
    """(B, T, D) entries of mean 0 and variance 1 at each document's own tokens, 0 at padding.

    Args:
        purpose: "rademacher" or "gaussian" (of the differences), "trace" (signs), "power" (normal).
        number: of the direction, from 0.
        documents: key of each row: the document's index in its data set.
        lengths: real tokens of each row.
        like: (B, T, D), for shape, type and device; drawn on the CPU, so equal on every device.
        seed: of the probes, not of the run.
    """
    drawn_BTD = torch.zeros_like(like)
    generators = noise_generators(seed, number, [(document, _PURPOSE[purpose]) for document in documents])
    for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        entries = draw(_DISTRIBUTION[purpose], (length, like.shape[2]), 1.0, generator, like.dtype)
        drawn_BTD[row, :length] = entries.to(like.device)
    return drawn_BTD


def at_radius(direction_BTD: Tensor, radius: float, lengths: Sequence[int]) -> Tensor:
    """e = radius / sqrt(L d) b: the papers' scale, so that random signs have the norm `radius` exactly."""
    size_B = torch.tensor(lengths, dtype=direction_BTD.dtype, device=direction_BTD.device) * direction_BTD.shape[2]
    return direction_BTD * (radius / size_B.sqrt())[:, None, None]


def norms(added_BTD: Tensor) -> Tensor:
    """(B,) Euclidean norm of each document's perturbation."""
    return added_BTD.flatten(1).norm(dim=1)
