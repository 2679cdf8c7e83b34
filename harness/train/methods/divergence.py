"""Sums of cross-entropy and Kullback-Leibler divergence over labelled positions, a chunk of them at a time.

N positions that have a target, V vocabulary. Everything is in nats and in the dtype of the logits (float32 or wider).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Probabilities held at one time: 64 MB in float32. The backward pass recomputes each chunk.
_CHUNK = 2**24


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Sum over the positions of -log p(target)."""
    return _summed(
        lambda logits, targets: functional.cross_entropy(logits, targets, reduction="sum"), logits_NV, targets_N
    )


def kl(reference_NV: Tensor, logits_NV: Tensor) -> Tensor:
    """Sum over the positions of KL(p_reference || p)."""
    return _summed(_kl, reference_NV, logits_NV)


def symmetric_kl(one_NV: Tensor, other_NV: Tensor) -> Tensor:
    """Sum over the positions of KL(p_one || p_other) + KL(p_other || p_one): twice the mean of the two."""
    return _summed(_symmetric_kl, one_NV, other_NV)


def _kl(reference_NV: Tensor, logits_NV: Tensor) -> Tensor:
    reference, other = reference_NV.log_softmax(1), logits_NV.log_softmax(1)
    return (reference.exp() * (reference - other)).sum()


def _symmetric_kl(one_NV: Tensor, other_NV: Tensor) -> Tensor:
    one, other = one_NV.log_softmax(1), other_NV.log_softmax(1)
    return ((one.exp() - other.exp()) * (one - other)).sum()


def _summed(term: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    rows = max(1, _CHUNK // first.shape[1])
    chunks = zip(first.split(rows), second.split(rows), strict=True)
    return torch.stack([checkpoint(term, *chunk, use_reentrant=False) for chunk in chunks]).sum()
