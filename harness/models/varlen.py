"""Attention of packed documents on a GPU, one kernel for all of them: flash-attn, torch's own, or FlexAttention.

B rows, H heads, T tokens of a row, E features of a head; N tokens of all rows, B * T.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
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

    On a GPU, in this order: the flash-attn package (half precision), torch's varlen_attn (half precision, no dropout,
    torch 2.11 or later), FlexAttention (any precision, no dropout). Otherwise, and always on a CPU, documents one by
    one. A flash-attn that is installed but does not load (built for another torch) counts as absent, with a warning.
    """
    if device.type != "cuda":
        return "per_document"
    flash = dtype in _HALF and torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY
    if flash and flash_function() is not None:
        return "flash_attn"
    if dropout:
        return "per_document"
    return "torch_varlen" if flash and torch_function() is not None else "flex"


@cache
def flash_function() -> Callable[..., Any] | None:
    """flash-attn's kernel for documents of any length; None if it is absent or does not load."""
    try:
        function: Callable[..., Any] = importlib.import_module("flash_attn").flash_attn_varlen_func
    except ModuleNotFoundError as error:
        if error.name == "flash_attn":
            return None
        problem: Exception = error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        problem = error
    else:
        return function
    reason = " ".join(str(problem).split())
    warnings.warn(f"flash-attn is installed but does not load, so it is not used: {reason}", stacklevel=2)
    return None


@cache
def torch_function() -> Callable[..., Any] | None:
    """torch's kernel for documents of any length; None if it has no window and scale (torch before 2.11)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"scale", "window_size"} <= _parameters(varlen_attn) else None


@cache
def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


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
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return starts.to(device, non_blocking=True)  # without synchronising with the device


def _flash_attn(
    q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, lengths: Lengths, window: int | None, scale: float | None, drop: float
) -> Tensor:
    flash_attn_varlen_func = flash_function()
    assert flash_attn_varlen_func is not None  # `choose_kernel` ensures it
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
    varlen_attn = torch_function()
    assert varlen_attn is not None  # `choose_kernel` ensures both
    assert not drop
    starts, longest = _boundaries(lengths, q_NHE.device), max(lengths)
    left = -1 if window is None else window - 1
    # Nothing to the right: causal.
    options: dict[str, Any] = {"scale": scale, "window_size": (left, 0)}
    group = q_NHE.shape[1] // k_NHE.shape[1]
    if "enable_gqa" in _parameters(varlen_attn):
        options["enable_gqa"] = group > 1
    elif group > 1:  # torch 2.11: as many heads of keys and values as of queries
        k_NHE, v_NHE = (each.repeat_interleave(group, dim=1) for each in (k_NHE, v_NHE))
    attended = varlen_attn(q_NHE, k_NHE, v_NHE, starts, starts, longest, longest, **options)
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
    """FlexAttention, compiled once for all lengths on a GPU; uncompiled elsewhere, which is slow and for tests."""
    from torch.nn.attention.flex_attention import flex_attention

    attend: Callable[..., Any] = flex_attention
    return torch.compile(attend, dynamic=True) if device_type == "cuda" else attend
