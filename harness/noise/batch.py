"""Reading and doubling the keyword arguments of a model call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.noise.tokens import Tokens


def named_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A model call as keywords; only input_ids may have come by position.

    Raises:
        ValueError: more arguments by position, or no input_ids (with inputs_embeds the embedding is never
            called).
    """
    if len(args) > 1:
        raise ValueError(f"{len(args)} arguments by position: name all but input_ids, the noise reads them by name")
    call = {"input_ids": args[0], **kwargs} if args else dict(kwargs)
    if not isinstance(call.get("input_ids"), Tensor):
        raise ValueError("a training forward without input_ids: with inputs_embeds the embedding is never called")
    return call


def tokens_of_call(
    call: dict[str, Any], document_ids: Tensor | None = None, special_tokens_mask: Tensor | None = None
) -> Tokens:
    """The layout of a batch, from the arguments of the model call and what it does not carry.

    Without an attention_mask every token is real, as the model itself takes it. Position numbers that return
    to 0 start a new document; padding numbered 0 as well needs the attention_mask to be told from one-token
    documents.

    Raises:
        ValueError: an attention_mask or position_ids from which the layout cannot be read.
    """
    input_ids_BL = call["input_ids"]
    mask = call.get("attention_mask")
    if mask is None:
        mask = torch.ones_like(input_ids_BL)
    if not isinstance(mask, Tensor) or mask.shape != input_ids_BL.shape:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"attention_mask {found}: give the (rows, tokens) mask to `at` when the model takes another")
    positions, labels = call.get("position_ids"), call.get("labels")
    if document_ids is None and positions is not None:
        document_ids = _documents_from_positions(positions, input_ids_BL)
    per_token = labels is not None and labels.shape == input_ids_BL.shape
    return Tokens(mask, document_ids, labels if per_token else None, special_tokens_mask)


def _documents_from_positions(position_ids: Tensor, input_ids_BL: Tensor) -> Tensor:
    if position_ids.ndim != 2 or position_ids.shape[1] != input_ids_BL.shape[1]:
        raise ValueError(f"position_ids of shape {tuple(position_ids.shape)}: give document_ids to `at` instead")
    return (position_ids == 0).cumsum(1).expand_as(input_ids_BL)


def double_rows(call: dict[str, Any]) -> dict[str, Any]:
    """The same call with every row twice: B rows, then the same B rows again.

    Doubled are tensors of two and more dimensions with B rows, labels with one number per row, and
    num_items_in_batch, by which transformers' Trainer divides the summed loss: the loss stays a mean, over 2B
    rows.

    Raises:
        ValueError: cu_seq_lens: lengths of one flat row, which has no second half.
    """
    rows = len(call["input_ids"])
    return {key: _double(key, value, rows) for key, value in call.items()}


def _double(key: str, value: Any, rows: int) -> Any:
    if value is None:
        return None
    if key.startswith("cu_seq_lens"):
        raise ValueError(f"{key}: a flat batch with sequence lengths cannot be doubled; use pair_mode='sequential'")
    if key == "num_items_in_batch":
        return value * 2
    if isinstance(value, Tensor) and (value.ndim >= 2 or key == "labels") and len(value) == rows:
        return torch.cat([value, value])
    return value
