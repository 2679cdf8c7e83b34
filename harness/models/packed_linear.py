"""Linear layers for inference: those with the same input as one product, weights prepacked where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

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
            return [linear(x_ND, layer.weight, layer.bias) for layer in self._layers]
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
    return torch.allclose(y_NO, linear(x_ND, weight_OD, bias_O), rtol=tolerance, atol=tolerance)


def _apply_packed(x_ND: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x_ND, packed, bias_O, "none", [], "")
    return result


def _joined_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    """The biases one after the other, zeros where a layer has none; None where none has."""
    if all(layer.bias is None for layer in layers):
        return None
    zeros = layers[0].weight.new_zeros
    return torch.cat([zeros(layer.out_features) if layer.bias is None else layer.bias.data for layer in layers])
