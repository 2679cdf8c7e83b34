"""How far the weights moved, by hand, and what measuring it takes."""

from __future__ import annotations

import torch
from support.tiny_models import tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.probe.weights import weight_distance


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation makes, in bytes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {id(each.untyped_storage()) for each in args if isinstance(each, torch.Tensor)}
        if isinstance(result, torch.Tensor) and id(result.untyped_storage()) not in known and not result._is_view():
            self.largest = max(self.largest, result.numel() * result.element_size())
        return result


def pair(shape):
    """Two models of one matrix each: all ones, and all threes."""
    models = [nn.Linear(shape[1], shape[0], bias=False) for _ in range(2)]
    for model, value in zip(models, (1.0, 3.0), strict=True):
        nn.init.constant_(model.weight, value)
    return models


def test_the_distance_by_hand():
    start, model = pair((30, 40))
    found = weight_distance(model, start)
    assert found["weight_distance"] == (1200 * 4.0) ** 0.5
    assert found["relative_weight_distance"] == 2.0


def test_tied_parameters_count_once():
    model = tiny_model("llama", tie_word_embeddings=True)
    start = tiny_model("llama", tie_word_embeddings=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += 0.5
    assert abs(weight_distance(model, start)["weight_distance"] - 0.5) < 1e-6


def test_it_takes_less_than_a_byte_for_each_parameter():
    start, model = pair((4096, 16384))  # 64 Mi parameters, 256 MiB each
    with Sizes() as sizes:
        weight_distance(model, start)
    # A few pieces exist at a time, 8 MiB each: together below a byte a parameter.
    assert 0 < sizes.largest <= 2**23
    assert 4 * sizes.largest < 4096 * 16384


def test_probing_curvature_keeps_no_graph_of_the_weights():
    from harness.probe.smoothness.surface import twice_differentiable

    model = tiny_model("llama")
    model.lm_head.weight.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with twice_differentiable(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
