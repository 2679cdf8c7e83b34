"""Attention of packed documents: each kernel against the definition in float64, and documents kept apart."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.setting import Finding, Setting, difference
from harness.models.attention import packed_attention, segment_attention
from harness.models.varlen import Kernel, choose_kernel, flash_function, torch_function, varlen_attention
from harness.train.loss import hidden_states

LENGTHS = (5, 300, 1, 77, 512, 129)
HEADS = ((32, 32, 128), (9, 3, 64), (32, 8, 128), (8, 1, 256))  # of queries, of keys, features


def kernels(setting: Setting) -> Iterator[Finding]:
    """Values and gradients within the rounding of the precision; ms forward and backward."""
    for dtype in (torch.bfloat16, torch.float32):
        yield Finding(f"chosen for {_name(dtype)}", choose_kernel(setting.device, dtype))
    for kernel, dtype in _there(setting):
        for heads in HEADS[: setting.size(4, 2)]:
            for window in (None, 64):
                name = f"{kernel} {_name(dtype)} {heads[0]}:{heads[1]} x {heads[2]}, window {window}"
                try:
                    yield _compared(setting, name, kernel, dtype, heads, window)
                except Exception as error:  # noqa: BLE001 (the other kernels are tried all the same)
                    yield Finding(name, f"{type(error).__name__}: {str(error)[:150]}", False)


def _there(setting: Setting) -> list[tuple[Kernel, torch.dtype]]:
    flex: list[tuple[Kernel, torch.dtype]] = [("flex", torch.float32)]
    if setting.cpu:
        return flex
    flash: list[tuple[Kernel, torch.dtype]] = [("flash_attn", torch.bfloat16)] if flash_function() else []
    varlen: list[tuple[Kernel, torch.dtype]] = [("torch_varlen", torch.bfloat16)] if torch_function() else []
    return [*flash, *varlen, ("flex", torch.bfloat16), *flex]


def _compared(
    setting: Setting, name: str, kernel: Kernel, dtype: torch.dtype, heads: tuple[int, int, int], window: int | None
) -> Finding:
    lengths = LENGTHS[: setting.size(6, 1)]
    # Flex without compilation has no backward pass on a CPU.
    kinds = {"device": setting.device, "dtype": dtype, "requires_grad": not setting.cpu}
    given = [torch.randn(1, count, sum(lengths), heads[2], **kinds) for count in (heads[0], heads[1], heads[1])]
    wide = [each.detach().cpu().double().requires_grad_() for each in given]
    module = torch.nn.Identity()
    reference, _ = segment_attention(module, *wide, None, sliding_window=window, segment_lengths=(lengths,))
    direction = torch.randn_like(reference)

    def both() -> tuple[Tensor, tuple[Tensor, ...]]:
        attended = varlen_attention(kernel, *given, lengths, window, None)
        gradients = () if setting.cpu else torch.autograd.grad(attended, given, direction.to(setting.device, dtype))
        return attended, gradients

    attended, gradients = both()
    expected = torch.autograd.grad(reference, wide, direction)
    pairs = zip((attended, *gradients), (reference, *expected), strict=False)
    worst = max(difference(ours, theirs) for ours, theirs in pairs)
    good = worst < (2e-2 if dtype == torch.bfloat16 else 1e-4)
    return Finding(name, f"{worst:.1e}, {setting.milliseconds(both, 5):.2f} ms", good)


def packed_on_the_gpu(setting: Setting) -> Iterator[Finding]:
    """The harness asks this of a model on the CPU; here of the kernels that train it, with autocast and without."""
    model = setting.llama(4).eval()
    for autocast in (True, False):
        with (
            torch.no_grad(),
            torch.autocast(setting.device.type, torch.bfloat16, enabled=autocast),
            packed_attention(model),
        ):
            both, alone = hidden_states(model, setting.packed([40, 23])), hidden_states(model, setting.packed([40]))
        off = difference(both[0, :40], alone[0])
        yield Finding(
            f"a document beside another, autocast {autocast}", f"{off:.1e}", off < (2e-2 if autocast else 1e-3)
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
