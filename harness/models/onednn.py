"""Matrix products of training through oneDNN, on CPUs where torch takes a slow path of MKL.

In float32 torch calls MKL, which uses AVX-512 only on Intel processors: on AMD's, oneDNN (which ships with torch) is
more than twice as fast. The products are the same up to rounding in the last bits.

N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def fast_linear(model: nn.Module) -> Iterator[None]:
    """Inside the block, plain linear layers of the model use `linear`; no effect unless `onednn_is_faster`.

    The choice depends only on the processor, never on a measurement, so that a repeated run has the same bits.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear] if onednn_is_faster() else []
    layers = [layer for layer in layers if "forward" not in vars(layer)]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias)


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` with gradients of any order, computed by the faster library.

    Args:
        x: (..., I).
    """
    whole = type(weight_OI) in (Tensor, nn.Parameter)  # not a shard, not quantised
    if not (whole and x.dtype == weight_OI.dtype == torch.float32 and _may_use_onednn(x)):
        return functional.linear(x, weight_OI, bias_O)
    y: Tensor = _ProductNT.apply(x.flatten(0, -2), weight_OI)
    y = y.unflatten(0, x.shape[:-1])
    return y if bias_O is None else y + bias_O


def product(a_NI: Tensor, b_OI: Tensor) -> Tensor:
    """a b', (N, O), outside autograd."""
    plain = not (a_NI.dtype == b_OI.dtype == torch.float32 and _may_use_onednn(a_NI))
    return a_NI @ b_OI.T if plain else _product(a_NI, b_OI)


def _may_use_onednn(x: Tensor) -> bool:
    here = x.device.type == "cpu" and x.numel() > 0 and x.dim() > 1
    return here and not torch.is_autocast_enabled("cpu") and onednn_is_faster()


class _ProductNT(torch.autograd.Function):
    """a b'; both gradients are products of the same form, so it can be differentiated repeatedly."""

    @staticmethod
    def forward(ctx: Any, a_NI: Tensor, b_OI: Tensor) -> Tensor:
        ctx.save_for_backward(a_NI, b_OI)
        return _product(a_NI, b_OI)

    @staticmethod
    def backward(ctx: Any, gradient_NO: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a_NI, b_OI = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return (
            _ProductNT.apply(gradient_NO, b_OI.T) if of_a else None,
            _ProductNT.apply(gradient_NO.T, a_NI.T) if of_b else None,
        )


def _product(a_NI: Tensor, b_OI: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(a_NI, b_OI, None, "none", [], "")
    return result


@cache
def onednn_is_faster() -> bool:
    """Whether the processor has AVX-512 but is not Intel's, torch uses MKL, and oneDNN's operation works as expected.

    The operation is part of torch (its compiler uses it) but undocumented: it may vanish or change.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if "AVX512" not in torch.backends.cpu.get_cpu_capability() or _vendor() in (None, "GenuineIntel"):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    a_NI, b_IO = (torch.arange(each).view(shape).float() for each, shape in ((40, (8, 5)), (15, (5, 3))))
    try:
        return torch.equal(_product(a_NI, b_IO.T), a_NI @ b_IO)  # whole numbers: exact
    except (RuntimeError, TypeError):  # another signature, or a processor that oneDNN refuses
        return False


def _vendor() -> str | None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), None)


# The weights are laid out for about this many rows; measured, only a hint below 8 costs anything.
_PACKED_FOR_ROWS = 64


class FusedLinear:
    """Several `nn.Linear` that read the same input: x (rows, in) -> one (rows, out) per layer, in their order.

    On a CPU where `can_prepack` holds, the weights are copied once into the blocked layout of oneDNN and applied as one
    product; this costs the weights' memory a second time, until the object goes. Elsewhere the layers' own
    weights are used in place.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = list(layers)
        self._sizes = [layer.out_features for layer in layers]
        weight = layers[0].weight
        self._packed: Tensor | None = None
        self._bias: Tensor | None = None
        if weight.device.type == "cpu" and can_prepack(weight.dtype):
            joined = torch.cat([layer.weight for layer in layers])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(joined, _PACKED_FOR_ROWS)
            self._bias = _joined_bias(layers)

    def __call__(self, x_ND: Tensor) -> Sequence[Tensor]:
        if self._packed is None:
            return [functional.linear(x_ND, layer.weight, layer.bias) for layer in self._layers]
        y_NO = _apply_packed(x_ND, self._packed, self._bias)
        return y_NO.split(self._sizes, dim=1)


@cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Whether this torch build and processor have the private oneDNN operations, and these agree with `linear`.

    The two operations are torch's own (its compiler uses them), but undocumented: they may vanish or change.
    """
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    operations = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in operations):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    generator = torch.Generator().manual_seed(0)
    x_ND, weight_OD, bias_O = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((5, 24), (40, 24), (40,))
    )
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight_OD, _PACKED_FOR_ROWS)
        y_NO = _apply_packed(x_ND, packed, bias_O)
    except (RuntimeError, TypeError):  # another signature, or a processor that oneDNN refuses
        return False
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    return torch.allclose(y_NO, functional.linear(x_ND, weight_OD, bias_O), rtol=tolerance, atol=tolerance)


def _apply_packed(x_ND: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x_ND, packed, bias_O, "none", [], "")
    return result


def _joined_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    """The biases one after the other, zeros where a layer has none; None where none has."""
    if all(layer.bias is None for layer in layers):
        return None
    zeros = layers[0].weight.new_zeros
    return torch.cat([zeros(layer.out_features) if layer.bias is None else layer.bias.data for layer in layers])
