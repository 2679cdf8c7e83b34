"""The pair as data: a doubled batch in which each token knows its half, so that any trainer counts it correctly.

Loss, number of targets, gradient accumulation, averages over devices and token accuracy are the trainer's own: they see
2B rows, or a flat row with every document twice. `EmbeddingNoise` adds +e to the first half and -e to the second.

B rows, L token positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# In a batch: 0 for tokens of X + e, 1 for those of X - e (or the second draw). Never reaches the model.
HALF = "noise_half"

_CUMULATIVE = ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens")
_LENGTHS = "packed_seq_lengths"  # unsloth's
_IGNORE_INDEX = -100


def paired(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The doubled batch, with a tensor `noise_half`.

    Rows become 2B rows, the first B before the second. One flat row (B = 1 with position numbers that return to 0 or
    lengths of sequences) stays one row of 2L tokens with every document twice, because attention separates
    documents only within a flat row.

    Args:
        batch: as a collator gives it; input_ids (B, L) and whatever else the model takes.

    Raises:
        ValueError: the batch is a pair already, or has a value that cannot be doubled.
    """
    if HALF in batch:
        raise ValueError(f"{HALF}: this batch already is a pair")
    input_ids = batch.get("input_ids")
    if not isinstance(input_ids, Tensor) or input_ids.ndim != 2:
        raise ValueError("input_ids: a pair needs the (rows, tokens) tensor")
    flat = is_flat(batch)
    double = _along_the_row if flat else _as_rows
    doubled = {key: double(key, value, input_ids) for key, value in batch.items()}
    if flat and "labels" in doubled and "shift_labels" not in doubled:
        # The last token of the first copy must not predict the first of the second.
        doubled["labels"][:, input_ids.shape[1]] = _IGNORE_INDEX
    zeros = torch.zeros_like(input_ids)
    doubled[HALF] = torch.cat([zeros, zeros + 1], dim=1 if flat else 0)
    return doubled


def is_flat(batch: Mapping[str, Any]) -> bool:
    """Whether the batch is one row that holds several documents end to end."""
    if len(batch["input_ids"]) != 1:
        return False
    positions, mask = batch.get("position_ids"), batch.get("attention_mask")
    restarts = isinstance(positions, Tensor) and positions.ndim == 2 and int((positions == 0).sum()) > 1
    numbered = isinstance(mask, Tensor) and mask.ndim == 2 and int(mask.max()) > 1
    return restarts or numbered or any(key in batch for key in (*_CUMULATIVE, _LENGTHS, "seq_idx"))


class PairCollator:
    """A collator that makes pairs; only for the training data loader."""

    def __init__(self, collator: Callable[[Any], Mapping[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, features: Any) -> dict[str, Any]:
        return paired(self.collator(features))


def _as_rows(key: str, value: Any, input_ids: Tensor) -> Any:
    rows = len(input_ids)
    if key == _LENGTHS:  # of all rows, one after the other
        return torch.cat([value, value])
    if isinstance(value, Tensor) and value.ndim and key != "cache_position":
        if len(value) == rows:
            return torch.cat([value, value])
        if value.ndim >= 2 and len(value) == 1:  # one row for all
            return value
    if isinstance(value, list | tuple) and len(value) == rows:
        return [*value, *value]
    return _whole(key, value)


def _along_the_row(key: str, value: Any, input_ids: Tensor) -> Any:
    length = input_ids.shape[1]
    if not isinstance(value, Tensor) or not value.ndim:
        return _whole(key, value)
    if key in _CUMULATIVE:
        return torch.cat([value, value[1:] + length])
    if key == _LENGTHS:
        return torch.cat([value, value])
    if value.shape != input_ids.shape:
        return _whole(key, value)
    # Document numbers continue: from 0 in seq_idx, from 1 in a mask that holds them, where 0 is padding.
    if key == "seq_idx":
        return torch.cat([value, value + value.max() + 1], dim=1)
    if key == "attention_mask" and int(value.max()) > 1:
        return torch.cat([value, torch.where(value > 0, value + value.max(), value)], dim=1)
    return torch.cat([value, value], dim=1)


def _whole(key: str, value: Any) -> Any:
    """Whether a value belongs to no row: a number, a flag, None."""
    if value is None or isinstance(value, bool | int | float | str) or (isinstance(value, Tensor) and value.ndim == 0):
        return value
    if key == "cache_position":
        return value
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(f"{key} ({shape}): a pair cannot tell which rows it belongs to; leave it out of the batch")
