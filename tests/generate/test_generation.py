"""Both backends against transformers' `generate`, one prompt at a time, and the parts by hand-computed cases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.generation_models import (
    ENGINE_MODELS,
    OTHER_MODELS,
    PAD,
    PROMPTS,
    VOCABULARY,
    tiny,
)

from harness.generate.backends import Completion, GenerationSettings, generate, supports
from harness.generate.hf import batches, left_pad
from harness.generate.penalty import apply_repetition_penalty
from harness.generate.settings import Request, plan_requests


@cache
def reference(name: str, prompt: tuple[int, ...], budget: int, eos: tuple[int, ...]) -> tuple[list[int], str]:
    """`generate` itself on one prompt: no batch, no padding."""
    ids = torch.tensor([prompt])
    sequence = tiny(name).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=1.2,
        max_new_tokens=budget,
        eos_token_id=list(eos) or VOCABULARY + 1,  # an id that never comes; None would mean the model's own
        pad_token_id=PAD,
    )
    answer = sequence[0, len(prompt) :].tolist()
    return (answer[:-1], "stop") if answer[-1] in eos else (answer, "length")


def one_by_one(name: str, budgets: Sequence[int] | int, eos: Sequence[int] = ()) -> list[tuple[list[int], str]]:
    """The reference for all PROMPTS."""
    every = [budgets] * len(PROMPTS) if isinstance(budgets, int) else budgets
    return [reference(name, tuple(prompt), budget, tuple(eos)) for prompt, budget in zip(PROMPTS, every, strict=True)]


def pairs(completions: Sequence[Completion]) -> list[tuple[list[int], str]]:
    return [(done.token_ids, done.finish_reason) for done in completions]


def common_token(name: str, budget: int) -> int:
    """A token that some answers hold and others do not, not at their start: the end token for a telling test."""
    answers = [answer for answer, _ in one_by_one(name, budget)]
    later = {token for answer in answers for token in answer[1:]}
    return next(token for token in sorted(later) if 1 < sum(token in answer for answer in answers) < len(answers))


@pytest.mark.parametrize("slots", [1, 3, 64])
@pytest.mark.parametrize("name", ENGINE_MODELS)
def test_engine_gives_the_text_of_generate_one_by_one(name: str, slots: int) -> None:
    model = tiny(name)
    assert supports(model)
    eos = common_token(name, 20)
    config = GenerationSettings(max_new_tokens=20, batch_size=slots, backend="engine")
    completions = generate(model, PROMPTS, config, eos, PAD)
    assert pairs(completions) == one_by_one(name, 20, [eos])
    assert {done.finish_reason for done in completions} == {"stop", "length"}
    assert {done.backend for done in completions} == {"engine"}


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("name", ["llama", *OTHER_MODELS])
def test_padded_batches_give_the_text_of_generate_one_by_one(name: str, rows: int) -> None:
    model = tiny(name)
    eos = common_token(name, 20)  # and eos as padding: padded rows must be as free to end as others
    config = GenerationSettings(max_new_tokens=20, batch_size=rows, backend="transformers")
    completions = generate(model, PROMPTS, config, eos, pad_token_id=eos)
    assert pairs(completions) == one_by_one(name, 20, [eos])
    assert {done.finish_reason for done in completions} == {"stop", "length"}
    assert {done.backend for done in completions} == {"transformers"}


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_limit_on_prompt_and_answer_together(backend: Any) -> None:
    config = GenerationSettings(max_length=9, max_new_tokens=7, backend=backend, batch_size=4)
    budgets = [min(7, 9 - len(prompt)) for prompt in PROMPTS]
    completions = generate(tiny("llama"), PROMPTS, config, [], PAD)
    assert [len(done.token_ids) for done in completions] == budgets
    assert pairs(completions) == one_by_one("llama", budgets)


def test_learned_positions_do_not_run_out() -> None:
    config = GenerationSettings(max_new_tokens=60, backend="transformers")
    budgets = [min(60, 64 - len(prompt)) for prompt in PROMPTS]  # 64 positions
    completions = generate(tiny("opt"), PROMPTS, config, [], PAD)
    assert [len(done.token_ids) for done in completions] == budgets
    assert pairs(completions) == one_by_one("opt", budgets)


def test_batches_by_hand() -> None:
    requests = [Request(0, [1] * 6, 2), Request(1, [1] * 5, 3), Request(2, [1] * 5, 3), Request(3, [1], 4)]

    def indices(rows: int, positions: int | None) -> list[list[int]]:
        return [[request.index for request in batch] for batch in batches(requests, rows, positions)]

    assert indices(3, None) == [[0, 1, 2], [3]]
    assert indices(4, 9) == [[0, 1, 2], [3]]
    assert indices(4, 8) == [[0], [1, 2], [3]]
    assert indices(1, 10) == [[0], [1], [2], [3]]


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_several_end_tokens(backend: Any) -> None:
    eos = sorted({answer[3] for answer, _ in one_by_one("qwen2", 20)})[:2]
    config = GenerationSettings(max_new_tokens=20, backend=backend)
    completions = generate(tiny("qwen2"), PROMPTS, config, eos, PAD)
    assert pairs(completions) == one_by_one("qwen2", 20, eos)


@settings(max_examples=15, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20), min_size=1, max_size=12),
    slots=st.integers(1, 9),
    new_tokens=st.integers(1, 12),
    eos=st.integers(0, VOCABULARY - 1),
)
def test_backends_agree_on_any_prompts(prompts: list[list[int]], slots: int, new_tokens: int, eos: int) -> None:
    model = tiny("llama")
    results = []
    for backend in ("engine", "transformers"):
        config = GenerationSettings(max_new_tokens=new_tokens, batch_size=slots, backend=backend)
        results.append(pairs(generate(model, prompts, config, eos, eos)))
    assert results[0] == results[1]


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_progress_counts_every_token_and_row(backend: Any) -> None:
    eos = common_token("llama", 10)
    calls: list[tuple[int, int]] = []
    config = GenerationSettings(max_new_tokens=10, batch_size=3, backend=backend)
    completions = generate(tiny("llama"), PROMPTS, config, eos, PAD, progress=lambda *call: calls.append(call))
    ends = sum(done.finish_reason == "stop" for done in completions)
    assert sum(rows for _, rows in calls) == len(PROMPTS)
    assert calls[-1][0] == sum(len(done.token_ids) for done in completions) + ends  # end tokens are generated too
    assert [tokens for tokens, _ in calls] == sorted(tokens for tokens, _ in calls)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_model_is_left_as_it_was(backend: Any) -> None:
    model = tiny("llama")
    own = model.generation_config
    own.repetition_penalty, own.suppress_tokens = 3.0, [int(token) for token in range(10)]
    model.train()
    try:
        completions = generate(model, PROMPTS, GenerationSettings(max_new_tokens=6, backend=backend), [], PAD)
        assert model.training
        assert model.generation_config is own
    finally:
        model.eval()
        own.repetition_penalty = own.suppress_tokens = None
    assert pairs(completions) == one_by_one("llama", 6)  # its defaults did not count


def test_auto_falls_back_and_says_so() -> None:
    config = GenerationSettings(max_new_tokens=2)
    assert [done.backend for done in generate(tiny("opt"), [[5]], config, [], PAD)] == ["transformers"]
    assert [done.backend for done in generate(tiny("llama"), [[5]], config, [], PAD)] == ["engine"]
    with pytest.raises(ValueError, match="backend=engine does not support OPTForCausalLM"):
        generate(tiny("opt"), [[5]], GenerationSettings(max_new_tokens=2, backend="engine"), [], PAD)


def test_no_prompts_no_completions() -> None:
    assert generate(tiny("llama"), [], GenerationSettings(max_new_tokens=2), 2, 2) == []


def test_requests_are_sorted_and_get_what_room_is_left() -> None:
    prompts = [[1], [1, 2, 3], [1, 2], [4, 5, 6]]
    requests = plan_requests(prompts, GenerationSettings(max_new_tokens=6, max_length=8), max_positions=None)
    assert [(request.index, request.budget) for request in requests] == [(1, 5), (3, 5), (2, 6), (0, 6)]
    requests = plan_requests(prompts, GenerationSettings(max_length=None, max_new_tokens=6), max_positions=7)
    assert [(request.index, request.budget) for request in requests] == [(1, 4), (3, 4), (2, 5), (0, 6)]


def test_prompts_without_room_are_one_error_that_names_them() -> None:
    config = GenerationSettings(max_new_tokens=5, max_length=3)
    with pytest.raises(ValueError, match=r"prompts 1 \(3 tokens\), 2 \(4 tokens\) leave no room.*max_length=3"):
        plan_requests([[1], [1, 2, 3], [1, 2, 3, 4]], config, max_positions=64)
    with pytest.raises(ValueError, match=r"the model's positions=2"):
        plan_requests([[1, 2]], config, max_positions=2)
    with pytest.raises(ValueError, match=r"prompts \[1\] are empty"):
        plan_requests([[1], []], config, max_positions=64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_length": -1}, "max_length=-1"),
        ({"max_length": None}, "both None"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty=nan"),
        ({"cache_gib": float("inf")}, "cache_gib=inf"),
        ({"backend": "llama.cpp"}, "backend='llama.cpp'"),
    ],
)
def test_settings_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationSettings(**values)


def test_penalty_by_hand() -> None:
    logits_BV = torch.tensor([[2.0, -2.0, 3.0, 0.0], [1.0, -1.0, 4.0, -4.0]])
    history_BT = torch.tensor([[0, 1, 1], [3, 3, 3]])  # row 1 has one token, repeated to the common width
    expected = torch.tensor([[1.0, -4.0, 3.0, 0.0], [1.0, -1.0, 4.0, -8.0]])
    assert torch.equal(apply_repetition_penalty(logits_BV, history_BT, 2.0), expected)
    assert torch.equal(apply_repetition_penalty(expected.clone(), history_BT, 1.0), expected)


def test_left_padding() -> None:
    ids_BT, mask_BT = left_pad([[7, 2], [9], [2, 2, 2]], pad_token_id=2)
    assert ids_BT.tolist() == [[2, 7, 2], [2, 2, 9], [2, 2, 2]]
    assert mask_BT.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 1]]
