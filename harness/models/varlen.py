"""Attention of packed documents on a GPU, one kernel for all of them: flash-attn, torch's own, or FlexAttention.

B rows, H heads, T tokens of a row, E features of a head; N tokens of all rows, B * T.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

Kernel = Literal["flash_attn", "torch_varlen", "flex", "per_document"]
Lengths = tuple[int, ...]

_HALF = (torch.bfloat16, torch.float16)
_FIRST_CAPABILITY = (8, 0)  # of both flash kernels


def choose_kernel(device: torch.device, dtype: torch.dtype, dropout: float = 0.0) -> Kernel:
    """The kernel for tensors of this kind; all of them compute the same function.

    On a GPU, in this order: the flash-attn package (half precision), torch's varlen_attn (half precision, no dropout),
    FlexAttention (any precision, no dropout). Otherwise, and on a CPU always, documents one by one.
    """
    if device.type != "cuda":
        return "per_document"
    flash = dtype in _HALF and torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY
    if flash and _installed("flash_attn"):
        return "flash_attn"
    if dropout:
        return "per_document"
    return "torch_varlen" if flash and _installed("torch.nn.attention.varlen") else "flex"


@cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def varlen_attention(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Lengths,
    sliding_window: int | None,
    scaling: float | None,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention of each document to itself, all documents at once.

    Args:
        kernel: from `choose_kernel`, other than per_document.
        query: (B, H, T, E).
        key: (B, H or a divisor of it, T, E); likewise value.
        lengths: of all documents, row after row; their sum is B * T.

    Returns:
        (B, T, H, E).
    """
    rows = query.shape[0]
    if kernel == "flex":
        q, k, v = (_in_one_row(each) for each in (query, key, value))
        attended_1NHE = _flex(q, k, v, lengths, sliding_window, scaling)
        return attended_1NHE[0].unflatten(0, (rows, -1))
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))
    attend = _flash_attn if kernel == "flash_attn" else _torch_varlen
    return attend(q, k, v, lengths, sliding_window, scaling, dropout).unflatten(0, (rows, -1))


def _in_one_row(tensor_BHTE: Tensor) -> Tensor:
    """(B, H, T, E) -> (1, H, N, E)."""
    return tensor_BHTE.transpose(0, 1).flatten(1, 2)[None]


@lru_cache(maxsize=16)  # every layer of a micro-batch asks for the same
def _boundaries(lengths: Lengths, device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def _flash_attn(
    q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, lengths: Lengths, window: int | None, scale: float | None, drop: float
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    starts, longest = _boundaries(lengths, q_NHE.device), max(lengths)
    left = -1 if window is None else window - 1
    options: dict[str, Any] = {"causal": True, "window_size": (left, -1 if window is None else 0)}
    attended: Tensor = flash_attn_varlen_func(
        q_NHE, k_NHE, v_NHE, starts, starts, longest, longest, dropout_p=drop, softmax_scale=scale, **options
    )
    return attended


def _torch_varlen(
    q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, lengths: Lengths, window: int | None, scale: float | None, drop: float
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    assert not drop  # `choose_kernel` saw to it
    starts, longest = _boundaries(lengths, q_NHE.device), max(lengths)
    left = -1 if window is None else window - 1
    grouped = q_NHE.shape[1] != k_NHE.shape[1]
    attended = varlen_attn(
        *(q_NHE, k_NHE, v_NHE, starts, starts, longest, longest),
        scale=scale,
        window_size=(left, 0),  # nothing to the right: causal
        enable_gqa=grouped,
    )
    assert isinstance(attended, Tensor)
    return attended


def _flex(
    q_1HNE: Tensor, k_1HNE: Tensor, v_1HNE: Tensor, lengths: Lengths, window: int | None, scale: float | None
) -> Tensor:
    """(1, H, N, E) -> (1, N, H, E)."""
    mask = _block_mask(lengths, window, q_1HNE.device)
    grouped = q_1HNE.shape[1] != k_1HNE.shape[1]
    attend = _flex_attention(q_1HNE.device.type)
    attended: Tensor = attend(q_1HNE, k_1HNE, v_1HNE, block_mask=mask, scale=scale, enable_gqa=grouped)
    return attended.transpose(1, 2)


@lru_cache(maxsize=16)
def _block_mask(lengths: Lengths, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    document_N = torch.repeat_interleave(torch.tensor(lengths, device=device))

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del batch, head
        allowed = (query >= key) & (document_N[query] == document_N[key])
        return allowed if window is None else allowed & (query - key < window)

    return create_block_mask(seen, None, None, len(document_N), len(document_N), device=device)


@cache
def _flex_attention(device_type: str) -> Callable[..., Any]:
    """Compiled on a GPU, for every length at once; elsewhere as it is, which is slow and for tests."""
    from torch.nn.attention.flex_attention import flex_attention

    attend: Callable[..., Any] = flex_attention
    return torch.compile(attend, dynamic=True) if device_type == "cuda" else attend
