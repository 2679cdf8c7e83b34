"""The vLLM backend without vLLM: a module of its published signatures stands in its place.

The stand-in reads the folder that it is given and answers by transformers' `generate`, so weights, prompts, limits and
end tokens must arrive for the text to be right. Real vLLM needs a GPU and is not run here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from support.generation_models import PAD, PROMPTS, tiny
from transformers import AutoModelForCausalLM

from harness.config import Config
from harness.generate.backends import GenerationSettings, generate
from harness.generate.checks import check_backend


class SamplingParams:
    def __init__(
        self, *, temperature: float, repetition_penalty: float, max_tokens: int, stop_token_ids: list[int],
        ignore_eos: bool, detokenize: bool,
    ) -> None:  # fmt: skip
        assert temperature == 0
        assert ignore_eos
        assert not detokenize
        self.options = {"repetition_penalty": repetition_penalty, "max_new_tokens": max_tokens}
        self.options["eos_token_id"] = stop_token_ids or None


class LLM:
    def __init__(
        self, model: str, *, dtype: str, max_model_len: int, max_num_seqs: int, skip_tokenizer_init: bool,
        generation_config: str, seed: int,
    ) -> None:  # fmt: skip
        assert skip_tokenizer_init
        assert generation_config == "vllm"
        assert seed == 0
        self.positions, self.rows = max_model_len, max_num_seqs
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    def generate(self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams]) -> list[Any]:
        return [self._answer(*each) for each in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt: dict[str, list[int]], sampling: SamplingParams) -> Any:
        ids = torch.tensor([prompt["prompt_token_ids"]])
        assert ids.shape[1] + sampling.options["max_new_tokens"] <= self.positions
        mask = torch.ones_like(ids)
        row = self.model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=PAD, **sampling.options)[0]
        answer = row[ids.shape[1] :].tolist()
        stopped = answer[-1] in (sampling.options["eos_token_id"] or [])
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=answer, finish_reason="stop" if stopped else "length")]
        )


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("eos", [PAD, [], [4, 11, 30]])
def test_same_completions_as_the_other_backends(eos: Any) -> None:
    model, seen = tiny("llama"), []
    settings = {"max_new_tokens": 20, "max_length": 25}
    theirs = generate(model, PROMPTS, GenerationSettings(backend="transformers", **settings), eos, PAD)
    ours = generate(
        model, PROMPTS, GenerationSettings(backend="vllm", **settings), eos, PAD, lambda *each: seen.append(each)
    )
    assert {done.backend for done in ours} == {"vllm"}
    assert [done.token_ids for done in ours] == [done.token_ids for done in theirs]
    assert [done.finish_reason for done in ours] == [done.finish_reason for done in theirs]
    assert seen == [(sum(len(done.token_ids) for done in ours), len(PROMPTS))]


def test_a_missing_vllm_is_named_before_anything_starts(compose: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match=r"generate\.backend=vllm: the package vllm is not installed"):
        check_backend(compose("generate.backend=vllm"))
