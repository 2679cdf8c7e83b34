"""The kernels for GPUs on a CPU: the choice, FlexAttention's figures, and what the flash kernels are given.

The flash kernels run on a GPU alone. Here functions stand in their places that compute by definition, and take what the
real ones take: each call is bound to the signature of the torch that is installed, or to one that was read out of a
release. That checks the arguments, not the kernels; `python -m benchmarks.gpu` compares those on a GPU.
"""

from __future__ import annotations

import inspect
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
        for function, package in (("flash_function", "flash_attn"), ("torch_function", "torch")):
            found = print if package in packages else None
            monkeypatch.setattr(varlen, function, lambda found=found: found)

    return pretend


@pytest.mark.parametrize(
    ("capability", "packages", "dtype", "dropout", "kernel"),
    [
        ((9, 0), ("flash_attn", "torch"), torch.bfloat16, 0.0, "flash_attn"),
        ((9, 0), ("torch",), torch.bfloat16, 0.0, "torch_varlen"),
        ((9, 0), (), torch.bfloat16, 0.0, "flex"),
        ((9, 0), ("flash_attn", "torch"), torch.float32, 0.0, "flex"),
        ((7, 5), ("flash_attn", "torch"), torch.float16, 0.0, "flex"),
        ((9, 0), ("flash_attn",), torch.bfloat16, 0.1, "flash_attn"),
        ((9, 0), ("torch",), torch.bfloat16, 0.1, "per_document"),
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


def flash_attn_2(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
    causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False,
    return_attn_probs=False, block_table=None,
):  # fmt: skip
    """The signature of flash-attn 2.8.3 as its documentation has it, recalled; a GPU is needed to install it."""


@pytest.fixture
def flash_attn(monkeypatch):
    """A flash-attn that can be imported, given what its module does; the caches are emptied around it."""

    def install(function) -> None:
        module = ModuleType("flash_attn")
        module.flash_attn_varlen_func = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flash_attn", module)

    varlen.flash_function.cache_clear()
    yield install
    varlen.flash_function.cache_clear()


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", SEGMENTS)
def test_flash_attn_is_told_of_every_document(monkeypatch, flash_attn, segments, window) -> None:
    def by_signature(*args, **kwargs):
        call = inspect.signature(flash_attn_2).bind(*args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        assert given["causal"]
        assert given["dropout_p"] == 0
        queries, keys = ((given[f"cu_seqlens_{of}"].tolist(), given[f"max_seqlen_{of}"]) for of in "qk")
        assert queries == keys
        assert given["window_size"] == ((-1, -1) if window is None else (window - 1, 0))
        starts, longest = given["cu_seqlens_q"], given["max_seqlen_q"]
        return by_definition(*args[:3], starts, longest, given["softmax_scale"], window)

    flash_attn(by_signature)
    _check_through_the_model_interface(monkeypatch, "flash_attn", segments, window)


def torch_2_11(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    """The signature of varlen_attn in torch 2.11.0, read out of its wheel."""


def torch_2_10(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    """And in torch 2.10."""


def installed_torch():
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


@pytest.mark.parametrize("release", [torch_2_11, installed_torch()], ids=["2.11", "installed"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("segments", SEGMENTS)
def test_torch_varlen_is_told_of_every_document(monkeypatch, segments, window, release) -> None:
    signature = inspect.signature(release)

    def by_signature(q, k, v, *args, **kwargs):
        call = signature.bind(q, k, v, *args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        # Fewer heads of keys than of queries only where the kernel was told so.
        assert (q.shape[1] == k.shape[1]) != given.get("enable_gqa", False)
        starts, longest = given["cu_seq_q"], given["max_q"]
        assert (starts.tolist(), longest) == (given["cu_seq_k"].tolist(), given["max_k"])
        assert given["window_size"] == (-1 if window is None else window - 1, 0)
        return by_definition(q, k, v, starts, longest, given["scale"], window)

    by_signature.__signature__ = signature  # type: ignore[attr-defined]
    monkeypatch.setattr(varlen, "torch_function", lambda: by_signature)
    _check_through_the_model_interface(monkeypatch, "torch_varlen", segments, window)


@pytest.mark.parametrize(("release", "usable"), [(torch_2_10, False), (torch_2_11, True), (installed_torch(), True)])
def test_torchs_kernel_is_used_where_it_knows_windows_and_scales(monkeypatch, release, usable) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", release)
    varlen.torch_function.cache_clear()
    try:
        assert (varlen.torch_function() is not None) == usable
    finally:
        varlen.torch_function.cache_clear()


BROKEN = {
    "another torch": "raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2')",
    "a part missing": "import a_module_that_nobody_has",
    "another release": "pass",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_flash_attn_is_passed_over_with_one_line(monkeypatch, tmp_path, flash_attn, content) -> None:
    del flash_attn
    (tmp_path / "flash_attn.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with pytest.warns(UserWarning, match="flash-attn is installed but does not load") as told:
        assert [choose_kernel(GPU, torch.bfloat16) for _ in range(3)] == ["torch_varlen"] * 3
    assert len(told) == 1
    assert "\n" not in str(told[0].message)


def test_without_flash_attn_nothing_is_said(monkeypatch, flash_attn) -> None:
    del flash_attn
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert varlen.flash_function() is None


def _check_through_the_model_interface(monkeypatch, kernel, segments, window) -> None:
    monkeypatch.setattr("harness.models.attention.choose_kernel", lambda *_: kernel)
    heads = random_heads(len(segments), 10)
    ours, _ = segment_attention(
        torch.nn.Identity(), *heads, None, scaling=0.3, sliding_window=window, segment_lengths=segments
    )
    torch.testing.assert_close(ours, reference_attention(*heads, segments, window, 0.3), rtol=1e-12, atol=1e-12)
