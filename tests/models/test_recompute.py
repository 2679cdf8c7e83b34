"""Selective activation checkpointing: the same gradients, no product computed twice, less kept."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support.tiny_models import random_documents, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from harness.data.batching import micro_batches
from harness.models.attention import packed_attention
from harness.models.layers import recompute
from harness.models.load import checkpoint_layers
from harness.train.loss import ResponseLoss

PRODUCTS = ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise")


class Count(TorchDispatchMode):
    """Operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.seen[operation._schema.name] += 1
        return operation(*args, **(kwargs or {}))


def trained(name: str, how: str, layout: str, autocast: bool = False) -> tuple[torch.Tensor, Counter[str]]:
    """Gradients of one micro-batch, and what was computed for them."""
    model = tiny_model(name, torch.float32 if autocast else torch.float64)
    if how != "none":
        checkpoint_layers(model, selective=how == "selective")
    objective = ResponseLoss(model)
    (batch,) = micro_batches(random_documents(), layout=layout)
    with packed_attention(model) if layout == "packed" else torch.enable_grad(), Count() as count:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, _ = objective(batch)
        loss.backward()
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]), count.seen


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", ["llama", "opt", "gpt_neox"])
def test_gradients_are_the_same_bits_and_products_are_not_computed_again(name, layout):
    plain, whole, selective = (trained(name, how, layout) for how in ("none", "full", "selective"))
    assert torch.equal(selective[0], plain[0])
    products = [sum(each[1][name] for name in PRODUCTS) for each in (plain, whole, selective)]
    assert products[0] == products[2] < products[1]
    rest = [each[1]["aten::rsqrt"] + each[1]["aten::native_layer_norm"] for each in (plain, whole, selective)]
    assert rest[0] < rest[2] == rest[1]


def test_under_autocast_it_is_the_same_too():
    plain, selective = (trained("llama", how, "packed", autocast=True) for how in ("none", "selective"))
    assert torch.equal(selective[0], plain[0])
    products = [sum(each[1][name] for name in PRODUCTS) for each in (plain, selective)]
    assert products[0] == products[1]


def test_the_names_are_those_of_operations_that_there_are():
    """A renamed operation would silently be computed again; GPUs' kernels that are not here aside."""
    import torch.nn.attention.varlen

    there = {recompute.name_of(getattr(getattr(torch.ops, space), name).default) for space, name in (
        each.split("::") for each in recompute._DEAR if each.startswith(("aten", "mkldnn", "torch_attn"))
    )}  # fmt: skip
    assert there == {each for each in recompute._DEAR if not each.startswith("fl")}
    from torch._higher_order_ops.flex_attention import flex_attention

    assert recompute.name_of(flex_attention) in recompute._DEAR
