"""The kernels for GPUs on a CPU: the choice, FlexAttention's figures, and what the flash kernels are given.

The flash kernels run on a GPU alone. Here functions of their published signatures stand in their places and compute by
definition, which checks the arguments, not the kernels; `python -m benchmarks.gpu` compares those on a GPU.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from support.attention import random_heads, reference_attention

from harness.models import varlen
from harness.models.attention import segment_attention
from harness.models.varlen import choose_kernel, varlen_attention

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SEGMENTS = [((5, 1, 4),), ((3, 7), (10,))]


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of the given capability and the given packages."""

    def pretend(capability: tuple[int, int], *packages: str) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(varlen, "_installed", lambda module: module in packages)

    return pretend


@pytest.mark.parametrize(
    ("capability", "packages", "dtype", "dropout", "kernel"),
    [
        ((9, 0), ("flash_attn", "torch.nn.attention.varlen"), torch.bfloat16, 0.0, "flash_attn"),
        ((9, 0), ("torch.nn.attention.varlen",), torch.bfloat16, 0.0, "torch_varlen"),
        ((9, 0), (), torch.bfloat16, 0.0, "flex"),
        ((9, 0), ("flash_attn", "torch.nn.attention.varlen"), torch.float32, 0.0, "flex"),
        ((7, 5), ("flash_attn", "torch.nn.attention.varlen"), torch.float16, 0.0, "flex"),
        ((9, 0), ("flash_attn",), torch.bfloat16, 0.1, "flash_attn"),
        ((9, 0), ("torch.nn.attention.varlen",), torch.bfloat16, 0.1, "per_document"),
    ],
)
def test_a_gpu_gets_the_first_kernel_that_can(gpu, capability, packages, dtype, dropout, kernel) -> None:
    gpu(capability, *packages)
    assert choose_kernel(GPU, dtype, dropout) == kernel


def test_a_cpu_attends_document_by_document() -> None:
    assert choose_kernel(CPU, torch.bfloat16) == "per_document"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # which it is on GPUs
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", SEGMENTS)
def test_flex_attention_equals_the_definition(segments, window) -> None:
    heads = [each.detach() for each in random_heads(len(segments), 10, torch.float32)]
    lengths = tuple(length for row in segments for length in row)
    ours = varlen_attention("flex", *heads, lengths, window, 0.3)
    torch.testing.assert_close(ours, reference_attention(*heads, segments, window, 0.3), rtol=1e-5, atol=1e-6)


def by_definition(q, k, v, starts, longest, scale, window):
    """(N, H, E) in and out, documents between `starts`; `longest` must be theirs."""
    lengths = tuple(int(end - start) for start, end in pairwise(starts.tolist()))
    assert starts.dtype == torch.int32
    assert longest == max(lengths)
    heads = (each.transpose(0, 1)[None] for each in (q, k, v))
    return reference_attention(*heads, (lengths,), window, scale)[0]


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", SEGMENTS)
def test_flash_attn_is_told_of_every_document(monkeypatch, segments, window) -> None:
    def flash_attn_varlen_func(
        q, k, v, cu_q, cu_k, max_q, max_k, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)
    ):
        assert causal
        assert dropout_p == 0
        assert (cu_q.tolist(), max_q) == (cu_k.tolist(), max_k)
        assert window_size == ((-1, -1) if window is None else (window - 1, 0))
        return by_definition(q, k, v, cu_q, max_q, softmax_scale, window)

    fake = ModuleType("flash_attn")
    fake.flash_attn_varlen_func = flash_attn_varlen_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", fake)
    _check_through_the_model_interface(monkeypatch, "flash_attn", segments, window)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", SEGMENTS)
def test_torch_varlen_is_told_of_every_document(monkeypatch, segments, window) -> None:
    from torch.nn.attention import varlen as torch_varlen

    def varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):
        assert enable_gqa
        assert (cu_q.tolist(), max_q) == (cu_k.tolist(), max_k)
        assert window_size == (-1 if window is None else window - 1, 0)
        return by_definition(q, k, v, cu_q, max_q, scale, window)

    monkeypatch.setattr(torch_varlen, "varlen_attn", varlen_attn)
    _check_through_the_model_interface(monkeypatch, "torch_varlen", segments, window)


def _check_through_the_model_interface(monkeypatch, kernel, segments, window) -> None:
    monkeypatch.setattr("harness.models.attention.choose_kernel", lambda *_: kernel)
    heads = random_heads(len(segments), 10)
    ours, _ = segment_attention(
        torch.nn.Identity(), *heads, None, scaling=0.3, sliding_window=window, segment_lengths=segments
    )
    torch.testing.assert_close(ours, reference_attention(*heads, segments, window, 0.3), rtol=1e-12, atol=1e-12)
