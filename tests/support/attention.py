"""Attention within documents by its definition, and heads to try it on."""

from __future__ import annotations

import torch


def reference_attention(query, key, value, segments, window=None, scaling=None):
    """Softmax(q k' scaling) v over the keys of the same segment, not later, less than window back."""
    heads = query.shape[1]
    key, value = (each.repeat_interleave(heads // each.shape[1], dim=1) for each in (key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = []
    for row, lengths in enumerate(segments):
        ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        position = torch.arange(len(ids))
        back = position[:, None] - position
        seen = (ids[:, None] == ids) & (back >= 0) & (back < (window or len(ids)))
        scores = (query[row] @ key[row].transpose(1, 2) * scaling).masked_fill(~seen, -torch.inf)
        rows.append((scores.softmax(-1) @ value[row]).transpose(0, 1))
    return torch.stack(rows)


def random_heads(rows: int, tokens: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, tokens, 8) for heads in (4, 2, 2)]
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]
