"""The last layer at targets alone, and norms and rotary positions in fewer passes: what transformers computes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from support.tiny_models import random_documents, tiny_model
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from harness.data.batching import micro_batches
from harness.models.attention import packed_attention
from harness.models.layers import last
from harness.models.layers.last import last_layer_at_targets, takes_places
from harness.models.layers.lean import RMSNorm, Rotary, lean_layers
from harness.models.load import checkpoint_layers
from harness.train.loss import ResponseLoss, hidden_states

KINDS = [*last.MODEL_TYPES, "gemma", "mixtral", "granite"]


def losses_and_gradients(model, batch, contexts=(), **asked):
    """What the loss gives for a batch, and all gradients of its sum."""
    objective = ResponseLoss(model)
    with ExitStack() as stack:
        for context in (packed_attention, *contexts):
            stack.enter_context(context(model))
        first, second = objective(batch, **asked)
        trained = [each for each in model.parameters() if each.requires_grad]
        return first, second, torch.autograd.grad(first.square().sum(), trained)


def assert_near(found, expected, tolerance: float) -> None:
    assert torch.equal(found[1], expected[1])
    for ours, theirs in zip((found[0], *found[2]), (expected[0], *expected[2]), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("asked", [{}, {"per_document": True}, {"logits": True}], ids=["sum", "documents", "logits"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_whole_layers(kind, asked):
    model = tiny_model(kind)
    (batch,) = micro_batches(random_documents(), layout="packed")
    expected = losses_and_gradients(model, batch, **asked)
    both = losses_and_gradients(model, batch, (lean_layers, last_layer_at_targets), **asked)
    assert_near(both, expected, 1e-5)


def test_the_copies_of_a_pair_are_two_rows():
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(), layout="packed")
    twice = batch.repeat(2)
    expected = losses_and_gradients(model, twice)
    assert_near(losses_and_gradients(model, twice, (lean_layers, last_layer_at_targets)), expected, 1e-5)


def test_the_last_layer_computes_no_more_than_the_targets():
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(prompt=4), layout="packed")
    rows = {}
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_hook(lambda _m, _i, output, number=number: rows.update({number: output.shape[:2]}))
    losses_and_gradients(model, batch, (last_layer_at_targets,))
    assert rows == {0: (1, batch.input_ids.numel()), 1: (1, batch.n_targets)}
    assert batch.n_targets < batch.input_ids.numel()


def test_without_targets_every_parameter_has_a_gradient_of_zeros():
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(), layout="packed")
    found = losses_and_gradients(model, batch.without_targets(), (lean_layers, last_layer_at_targets))
    assert found[0] == found[1] == 0
    assert all((each == 0).all() for each in found[2])


def test_layers_computed_again_in_the_backward_pass_change_nothing():
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(), layout="packed")
    expected = losses_and_gradients(model, batch, (lean_layers, last_layer_at_targets))
    checkpoint_layers(model)
    assert_near(losses_and_gradients(model, batch, (lean_layers, last_layer_at_targets)), expected, 1e-7)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's call
def test_adapters_train_as_in_whole_layers():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("llama"), config)
    (batch,) = micro_batches(random_documents(), layout="packed")
    expected = losses_and_gradients(model, batch)
    with packed_attention(model), last_layer_at_targets(model):
        assert takes_places(model)
    assert_near(losses_and_gradients(model, batch, (lean_layers, last_layer_at_targets)), expected, 1e-5)


def test_outside_or_for_other_kinds_the_model_is_as_it_was():
    model, other = tiny_model("llama"), tiny_model("gpt_neox")
    with lean_layers(model) as modules, last_layer_at_targets(model) as does:
        assert does
        assert takes_places(model)
        assert modules == 2 * 3 + 1  # two norms and the attention of each layer, the last norm
    assert not takes_places(model)
    assert not any("forward" in vars(module) for module in model.modules())
    with lean_layers(other) as modules, last_layer_at_targets(other) as does:
        assert not does
        assert not takes_places(other)
        assert modules == 0


def test_without_places_the_hidden_states_are_whole():
    model = tiny_model("qwen2")
    (batch,) = micro_batches(random_documents(), layout="packed")
    with packed_attention(model):
        expected = hidden_states(model, batch)
        with last_layer_at_targets(model):
            assert torch.equal(hidden_states(model, batch), expected)


def test_a_forward_that_others_have_replaced_stays():
    model = tiny_model("llama")
    mine = model.model.norm.forward = lambda hidden: hidden
    with lean_layers(model):
        assert model.model.norm.forward is mine
    assert model.model.norm.forward is mine


def values(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def test_the_norm_is_transformers_with_right_derivatives_of_both_orders():
    module = LlamaRMSNorm(6, eps=1e-5)
    x_BTD, weight_D = values(2, 3, 6, dtype=torch.float32), values(6, dtype=torch.float32)
    module.weight.data = weight_D.data
    torch.testing.assert_close(RMSNorm.apply(x_BTD, weight_D, 1e-5), module(x_BTD))
    inputs = (values(2, 3, 6), values(6), 1e-5)
    assert torch.autograd.gradcheck(RMSNorm.apply, inputs)
    assert torch.autograd.gradgradcheck(RMSNorm.apply, inputs)
    for frozen in (0, 1):
        inputs = (values(2, 3, 6), values(6), 1e-5)
        inputs[frozen].requires_grad_(False)
        assert torch.autograd.gradcheck(RMSNorm.apply, inputs)
        assert torch.autograd.gradgradcheck(RMSNorm.apply, inputs)


def test_rotary_positions_are_transformers_with_right_derivatives_of_both_orders():
    query, key = values(2, 3, 4, 8), values(2, 3, 2, 8)
    angles_BTE = torch.arange(3.0, dtype=torch.float64)[None, :, None] * torch.tensor([1.0, 0.3, 0.1, 0.02] * 2)
    cos, sin = angles_BTE.cos(), angles_BTE.sin()
    expected = apply_rotary_pos_emb(query, key, cos, sin, unsqueeze_dim=2)
    for x_BTHE, theirs in zip((query, key), expected, strict=True):
        torch.testing.assert_close(Rotary.apply(x_BTHE, cos.unsqueeze(2), sin.unsqueeze(2)), theirs)
    inputs = (query, cos.unsqueeze(2), sin.unsqueeze(2))
    assert torch.autograd.gradcheck(Rotary.apply, inputs)
    assert torch.autograd.gradgradcheck(Rotary.apply, inputs)


def test_curvature_is_measured_through_them():
    """A probe during training differentiates twice, inside these contexts."""
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(), layout="packed")

    def product(contexts):
        with ExitStack() as stack:
            for context in (packed_attention, *contexts):
                stack.enter_context(context(model))
            delta = torch.zeros(1, batch.input_ids.numel(), 32, requires_grad=True)
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                loss = hidden_states(model, batch, lambda embeddings: embeddings + delta).pow(3).sum()
                (gradient,) = torch.autograd.grad(loss, delta, create_graph=True)
                return torch.autograd.grad(gradient.square().sum(), delta)[0]

    expected = product(())
    found = product((lean_layers,))
    assert not torch.equal(found, expected)
    assert (found - expected).norm() <= 1e-4 * expected.norm()
