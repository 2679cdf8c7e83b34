from __future__ import annotations

import pytest
import torch
from support.attention import random_heads, reference_attention
from support.tiny_models import VOCABULARY, random_documents, tiny_model

from harness.data.batching import micro_batches
from harness.models.attention import SEGMENTS, packed_attention, segment_attention, supports_packing
from harness.train.loss import hidden_states


@pytest.mark.parametrize("window", [None, 3, 1])
@pytest.mark.parametrize("segments", [((5, 1, 4),), ((5, 5), (5, 5)), ((3, 7), (10,))])
def test_attention_equals_its_definition(segments: tuple, window: int | None) -> None:
    heads = random_heads(len(segments), 10)
    options = {"scaling": 0.3, "sliding_window": window, "segment_lengths": segments}
    ours, weights = segment_attention(torch.nn.Identity(), *heads, None, **options)
    reference = reference_attention(*heads, segments, window, 0.3)
    assert weights is None
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)  # float64, other order of summation
    direction = torch.randn_like(reference)
    for mine, theirs in zip(
        torch.autograd.grad(ours, heads, direction),
        torch.autograd.grad(reference, heads, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_queries_wider_than_values_are_narrowed() -> None:
    query, key, value = random_heads(1, 10, torch.bfloat16)
    mixed, _ = segment_attention(
        torch.nn.Identity(), query.float(), key.float(), value, None, segment_lengths=((4, 6),)
    )
    alike, _ = segment_attention(torch.nn.Identity(), query, key, value, None, segment_lengths=((4, 6),))
    assert torch.equal(mixed, alike)


def test_bfloat16_attention_is_computed_in_float32_even_under_autocast() -> None:
    heads = random_heads(1, 10, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        ours, _ = segment_attention(torch.nn.Identity(), *heads, None, segment_lengths=((4, 6),))
    wide, _ = segment_attention(torch.nn.Identity(), *(each.float() for each in heads), None, segment_lengths=((4, 6),))
    assert torch.equal(ours, wide.bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "segment_lengths"),
        ({"segment_lengths": ((4, 5),)}, r"add up to \[9\]"),
        ({"segment_lengths": ((5, 5), (10,))}, r"add up to \[10, 10\]"),
        ({"segment_lengths": ((10,),), "softcap": 50.0}, "softcap"),
        ({"segment_lengths": ((10,),), "position_bias": torch.zeros(1)}, "position_bias"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segment_attention(torch.nn.Identity(), *random_heads(1, 10), None, **options)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma", "gpt_neox", "opt", "mistral", "mixtral", "granite"])
def test_known_architectures_can_be_packed(name: str) -> None:
    model = tiny_model(name)
    before = model.config._attn_implementation
    assert supports_packing(model)
    assert model.training
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("name", ["mamba", "gpt_oss", "gemma2", "nemotron", "bloom"])
def test_architectures_that_cannot_be_packed_are_told_apart(name: str) -> None:
    """A recurrent state; attention sinks; capped scores; arguments not handed on; no position_ids."""
    assert not supports_packing(tiny_model(name))


@pytest.mark.parametrize("strength", [1.0, 1e-4])
def test_the_check_sees_documents_that_mix(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a little: structure alone would pass, and so would a bound wide enough for rounding."""
    from transformers import AttentionInterface

    def mixing(*args, segment_lengths, **kwargs):
        apart, _ = segment_attention(*args, segment_lengths=segment_lengths, **kwargs)
        whole = tuple((sum(lengths),) for lengths in segment_lengths)
        mixed, _ = segment_attention(*args, segment_lengths=whole, **kwargs)
        return apart + strength * (mixed - apart), None

    monkeypatch.setitem(AttentionInterface._global_mapping, SEGMENTS, mixing)
    assert not supports_packing(tiny_model("llama"))


class Params4bit(torch.nn.Parameter):
    """By this name the check knows the weights of bitsandbytes."""


class Half(torch.nn.Linear):
    """Computes in bfloat16 beside float32, as layers of 4 bits do, by kernels that depend on the number of rows."""

    def forward(self, x):
        x, weight = x.bfloat16(), self.weight.bfloat16()
        middle = x.shape[-1] // 2 if x.shape[1] > 8 else x.shape[-1]
        whole = x[..., :middle] @ weight[:, :middle].T + x[..., middle:] @ weight[:, middle:].T
        return whole.float()


@pytest.mark.parametrize("four_bits", [False, True])
def test_a_base_of_four_bits_may_round_as_bfloat16_does(four_bits: bool) -> None:
    """Its embedding is float32, its layers are not: with the tolerance of float32 it would be trained padded."""
    model = tiny_model("llama").eval()
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, linear in list(parent.named_children()):
                if isinstance(linear, torch.nn.Linear):
                    half = Half(linear.in_features, linear.out_features, bias=False)
                    kind = Params4bit if four_bits else torch.nn.Parameter
                    half.weight = kind(linear.weight.detach().clone())
                    setattr(parent, name, half)
    assert model.get_input_embeddings().weight.dtype == torch.float32
    assert supports_packing(model) is four_bits


def test_the_check_sees_positions_that_do_not_restart() -> None:
    model = tiny_model("opt")
    embed = model.model.decoder.embed_positions
    original = embed.forward
    embed.forward = lambda mask, past, position_ids: original(
        mask, past, position_ids=torch.arange(position_ids.shape[1])[None]
    )
    assert not supports_packing(model)


def test_the_implementation_is_restored_after_an_exception() -> None:
    model = tiny_model("llama")
    with pytest.raises(ZeroDivisionError), packed_attention(model):
        1 / (model.config._attn_implementation != SEGMENTS)
    assert model.config._attn_implementation == "sdpa"


def test_a_packed_model_refuses_to_be_called_as_if_it_were_not() -> None:
    model = tiny_model("llama")
    with packed_attention(model), pytest.raises(ValueError, match="segment_lengths"):
        model(input_ids=torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize("name", ["llama", "opt", "mistral"])
def test_documents_come_through_packing_unchanged(name: str) -> None:
    """Packed, padded and alone; Mistral's window of 4 is shorter than a document."""
    model = tiny_model(name, torch.float32)
    documents = random_documents()
    (packed,), (padded,) = (micro_batches(documents, layout=layout) for layout in ("packed", "padded"))
    with packed_attention(model):
        packed_BTD = hidden_states(model, packed)
    padded_BTD = hidden_states(model, padded)
    for place, index in enumerate(packed.documents):
        input_ids = torch.from_numpy(documents[index].input_ids)[None]
        alone = model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state[0]
        for batch, hidden in ((packed, packed_BTD), (padded, padded_BTD)):
            mine = hidden[(batch.document_ids == place) & batch.attention_mask.bool()]
            torch.testing.assert_close(mine, alone, rtol=1e-5, atol=1e-5)  # float32, other shapes of the products


def test_generation_after_packed_training_is_what_it_was() -> None:
    model = tiny_model("llama").eval()
    prompt = {
        "input_ids": torch.tensor([[0, 5, 6], [7, 8, 9]]),
        "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
    }
    before = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    (batch,) = micro_batches(random_documents(), layout="packed")
    with packed_attention(model):
        hidden_states(model, batch)
    assert torch.equal(before, model.generate(**prompt, max_new_tokens=4, do_sample=False))
    assert before.max() < VOCABULARY
