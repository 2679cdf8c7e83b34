"""Measuring and scaling perturbations of embeddings per document, packed or padded.

B rows, T tokens of a row, D hidden size, n documents. Padding belongs to no document: it is ignored and stays zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.batching import Batch


def norms(tensor_BTD: Tensor, batch: Batch) -> Tensor:
    """(n,) Frobenius norm of each document's L x D block."""
    squares_BT = tensor_BTD.square().sum(-1) * batch.attention_mask
    total = squares_BT.new_zeros(len(batch.documents))
    return total.index_add_(0, batch.document_ids.flatten(), squares_BT.flatten()).sqrt_()


def largest(tensor_BTD: Tensor, batch: Batch) -> Tensor:
    """(n,) largest absolute entry of each document's block."""
    largest_BT = tensor_BTD.abs().amax(-1) * batch.attention_mask
    found = largest_BT.new_zeros(len(batch.documents))
    return found.scatter_reduce_(0, batch.document_ids.flatten(), largest_BT.flatten(), "amax")


def scaled(tensor_BTD: Tensor, factor_n: Tensor, batch: Batch) -> Tensor:
    """Each document's block times its factor; 0 at padding."""
    return tensor_BTD * per_token(factor_n, batch)


def per_token(value_n: Tensor, batch: Batch) -> Tensor:
    """(B, T, 1): each document's value at its tokens, 0 at padding."""
    return (value_n[batch.document_ids] * batch.attention_mask)[..., None]


def rescale(tensor_BTD: Tensor, length: float, size_n: Tensor, batch: Batch) -> Tensor:
    """Each document's block divided by its size and multiplied by `length`; a block of size 0 stays 0."""
    return scaled(tensor_BTD, torch.where(size_n > 0, length / size_n, 0.0), batch)


def project(tensor_BTD: Tensor, radius: float, batch: Batch) -> Tensor:
    """Each document's block projected to Frobenius norm at most `radius`."""
    norm_n = norms(tensor_BTD, batch)
    return scaled(tensor_BTD, torch.where(norm_n > radius, radius / norm_n, 1.0), batch)


def linf_radius(alpha: float, batch: Batch, width: int, like: Tensor) -> Tensor:
    """(n,) alpha / sqrt(L D): the entry of a block whose entries are all equal and whose Frobenius norm is alpha."""
    lengths = torch.tensor([length for row in batch.segment_lengths for length in row])
    return (alpha / (lengths.to(like.dtype) * width).sqrt()).to(like.device, non_blocking=True)
