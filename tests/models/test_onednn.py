from __future__ import annotations

import pytest
import torch
from support.tiny_models import tiny_model
from torch import nn
from torch.autograd import gradcheck

from harness.models import onednn as module
from harness.models.onednn import fast_linear, linear, onednn_is_faster, product

needs_onednn = pytest.mark.skipif(not onednn_is_faster(), reason="on this processor torch's own products are used")


def operands(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((*shape, 24), (40, 24), (40,))
    return [torch.randn(each, generator=generator, requires_grad=True) for each in shapes]


@needs_onednn
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (300,)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_linear_in_float64(shape: tuple[int, ...], biased: bool) -> None:
    x, weight, bias = operands(*shape)
    inputs = [x, weight, bias] if biased else [x, weight]
    wide = [each.detach().double().requires_grad_() for each in inputs]
    ours, reference = linear(*inputs), nn.functional.linear(*wide)
    assert module._may_use_onednn(x)
    # float32: 24 or 300 products, each off by 6e-8 of it
    torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(reference)
    gradients = torch.autograd.grad(ours, inputs, direction.float())
    for mine, theirs in zip(gradients, torch.autograd.grad(reference, wide, direction), strict=True):
        assert mine.is_contiguous()
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_second_derivatives() -> None:
    x, weight, _ = operands(4)
    pair = []
    for function in (linear, nn.functional.linear):
        (first,) = torch.autograd.grad(function(x, weight).square().sum(), x, create_graph=True)
        pair.append(torch.autograd.grad(first.square().sum(), (x, weight)))
    for mine, theirs in zip(*pair, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-2)  # values of some 1e3


def test_what_onednn_is_not_for_goes_to_torch() -> None:
    x, weight, bias = (each.detach() for each in operands(3))
    for given in ([x.double(), weight.double(), bias.double()], [x[:0], weight, bias], [x[0], weight, bias]):
        assert torch.equal(linear(*given), nn.functional.linear(*given))
    other = weight.as_subclass(type("Quantised", (torch.Tensor,), {}))
    assert type(linear(x, other, bias)) is type(other)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    assert gradcheck(linear, [each.double().requires_grad_() for each in (x, weight, bias)])
    assert torch.equal(product(x.double(), weight.double()), x.double() @ weight.double().T)


def test_layers_are_changed_inside_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    layers = [each for each in model.modules() if type(each) is nn.Linear]
    calls = []
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(module, "linear", lambda *given: calls.append(given) or nn.functional.linear(*given))
    ids = torch.tensor([[1, 2, 3]])
    with fast_linear(model):
        inside = model(input_ids=ids).logits
    assert {id(weight) for _, weight, _ in calls} == {id(layer.weight) for layer in layers}
    calls.clear()
    assert torch.equal(model(input_ids=ids).logits, inside)
    assert calls == []
    assert all("forward" not in vars(layer) for layer in layers)


def test_an_intel_processor_keeps_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in ("GenuineIntel", None):
        monkeypatch.setattr(module, "_vendor", lambda vendor=vendor: vendor)
        assert not onednn_is_faster.__wrapped__()
