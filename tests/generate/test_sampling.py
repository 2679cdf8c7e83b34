"""Sampling: the distribution, the nucleus, and answers that depend on seed, prompt and sample number alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from support.generation_models import PAD, PROMPTS, VOCABULARY, tiny
from transformers import GenerationConfig, TopPLogitsWarper

from harness.config import GenerateConfig
from harness.generate.backends import GenerationSettings, generate
from harness.generate.ranks import share
from harness.generate.sampling import Chooser, draw, sample_numbers, uniforms, vllm_seed
from harness.generate.settings import Request, plan_requests
from harness.generate.vllm import sampling_options
from harness.models.decoding import generation_config

DRAWN = GenerationSettings(max_new_tokens=20, temperature=0.8, top_p=0.9, seed=3, backend="engine")


def settings(**changes: Any) -> GenerationSettings:
    return GenerationSettings(**{"max_new_tokens": 20, "temperature": 0.8, "top_p": 0.9, "seed": 3, **changes})


def answers(prompts: Any, given: GenerationSettings, samples: Any = None, model: Any = None) -> list[list[int]]:
    done = generate(model or tiny("llama"), prompts, given, PAD, PAD, None, samples)
    return [each.token_ids for each in done]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_softmax_says(temperature: float) -> None:
    torch.manual_seed(0)
    logits_V = torch.randn(12)  # at least 14 of each token expected at any of the temperatures
    count = 40_000
    drawn = np.random.default_rng(1).random(count)
    tokens = draw(logits_V.repeat(count, 1), torch.tensor(drawn), temperature, 1.0)
    expected = torch.softmax(logits_V.double() / temperature, 0).numpy() * count
    # Fixed numbers: the test cannot fail by chance. A wrong temperature gives p below 1e-100.
    assert chisquare(np.bincount(tokens.numpy(), minlength=12), expected).pvalue > 0.01


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("vocabulary", [7, 1000])
def test_the_nucleus_is_transformers(top_p: float, vocabulary: int) -> None:
    """Every token that transformers keeps can come, at its share of the kept, and no other one."""
    torch.manual_seed(4)
    logits_BV = torch.randn(5, vocabulary, dtype=torch.float64)
    kept_BV = TopPLogitsWarper(top_p)(torch.zeros(5, 1, dtype=torch.int64), logits_BV.clone())
    expected_BV = torch.softmax(kept_BV, 1)
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for row in range(5):
        tokens = draw(logits_BV[row].repeat(len(grid), 1), grid, 1.0, top_p)
        shares_V = torch.bincount(tokens, minlength=vocabulary) / len(grid)
        assert (shares_V - expected_BV[row]).abs().max() < 1.01 / len(
            grid
        )  # a border falls between two points of the grid
        assert not (shares_V[expected_BV[row] == 0] > 0).any()


def test_the_ends_of_the_interval_give_possible_tokens() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 0.0, -torch.inf]] * 2)
    assert draw(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 1.0, 1.0).tolist() == [1, 3]


def test_greedy_is_argmax_and_draws_nothing() -> None:
    choose = Chooser(GenerationSettings(max_new_tokens=2))
    logits = torch.randn(3, VOCABULARY)
    assert not choose.samples
    assert choose(logits, [Request(0, [1], 2)] * 3, [0, 0, 0]).tolist() == logits.argmax(1).tolist()


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_twenty_samples_are_the_same_in_any_batch_order_and_rank(backend: Any) -> None:
    prompts = [prompt for prompt in PROMPTS[:5] for _ in range(4)]
    numbers = sample_numbers(prompts)
    whole = answers(prompts, settings(backend=backend), numbers)
    assert len({tuple(each) for each in whole}) > 15
    for rows in (1, 3, 64):
        assert answers(prompts, settings(backend=backend, batch_size=rows), numbers) == whole
    order = list(range(20))
    random.Random(5).shuffle(order)
    shuffled = answers(
        [prompts[place] for place in order], settings(backend=backend), [numbers[place] for place in order]
    )
    assert shuffled == [whole[place] for place in order]
    for rank in range(3):
        ours = share(list(zip(prompts, numbers, strict=True)), [len(prompt) for prompt in prompts], rank, 3)
        theirs = answers([each for _, (each, _) in ours], settings(backend=backend), [one for _, (_, one) in ours])
        assert theirs == [whole[index] for index, _ in ours]


def test_both_backends_draw_the_same_answers() -> None:
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    numbers = sample_numbers(prompts)
    engine = answers(prompts, settings(backend="engine"), numbers)
    assert answers(prompts, settings(backend="transformers"), numbers) == engine


def test_an_answer_depends_on_seed_and_number() -> None:
    one, other = PROMPTS[:2]
    first = answers([one, other], settings())
    assert answers([one, other], settings(seed=4)) != first
    assert answers([one, other], settings(), [1, 1]) != first
    assert answers([other], settings()) == first[1:]


def test_low_temperature_is_greedy() -> None:
    prompts = [
        prompt for prompt in PROMPTS if set(prompt) != {PAD}
    ]  # whose embedding is zero: all tokens are equally likely
    greedy = answers(prompts, GenerationSettings(max_new_tokens=20))
    assert answers(prompts, settings(temperature=1e-4, top_p=1.0)) == greedy


def test_a_models_first_tokens_follow_its_own_distribution() -> None:
    """4,000 samples of one prompt against softmax of the logits of the model itself."""
    model, count = tiny("llama"), 4000
    logits_V = model(torch.tensor([PROMPTS[0]])).logits[0, -1].double()
    given = settings(max_new_tokens=1, temperature=0.7, top_p=1.0, repetition_penalty=1.0, batch_size=500)
    done = generate(model, [PROMPTS[0]] * count, given, [], PAD, None, list(range(count)))
    seen = np.bincount([each.token_ids[0] for each in done], minlength=VOCABULARY)
    expected = (torch.softmax(logits_V / 0.7, 0) * count).detach().numpy()
    common = expected > 5  # as the chi-squared test needs
    grouped = [*seen[common], seen[~common].sum()], [*expected[common], expected[~common].sum()]
    assert chisquare(*grouped).pvalue > 0.01


def test_the_stream_is_the_documented_one() -> None:
    """Written down: a change of it would change answers that were reproducible."""
    request = Request(0, [5, 9, 11], 3, 1)
    assert uniforms(request, 7).tolist() == pytest.approx(UNIFORMS, abs=0)
    assert vllm_seed(request, 7) == VLLM_SEED


UNIFORMS = [0.7353986609489827, 0.6054299524008324, 0.5428109003813343]
VLLM_SEED = 1943290771065408485


def test_vllm_is_asked_for_the_same_draw() -> None:
    first, second = plan_requests([[3, 4], [3, 4]], DRAWN, 64, [0, 1])
    asked = [sampling_options(each, DRAWN, frozenset([2])) for each in (first, second)]
    assert {(each["temperature"], each["top_p"]) for each in asked} == {(0.8, 0.9)}
    assert asked[0]["seed"] != asked[1]["seed"]
    assert all(0 <= each["seed"] < 2**63 for each in asked)
    greedy = sampling_options(first, GenerationSettings(max_new_tokens=2), frozenset([2]))
    assert greedy["temperature"] == 0
    assert not {"seed", "top_p"} & set(greedy)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"top_p": 0.9}, "top_p=0.9"),
        ({"samples": 3}, "samples=3"),
        ({"temperature": 1.0, "samples": 0}, "samples"),
        ({"temperature": 1.0, "seed": -1}, "seed"),
    ],
)
def test_the_schema_refuses(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GenerateConfig(name="x", **changes)


def test_a_greedy_run_has_no_seed() -> None:
    assert GenerateConfig(name="x", seed=5) == GenerateConfig(name="x")
    assert GenerateConfig(name="x", temperature=0.7, seed=5).seed == 5


def test_generation_config_of_a_sampling_run_has_no_top_k() -> None:
    class Tokens:
        bos_token_id, eos_token_id, pad_token_id = 1, 2, None

    found = generation_config(GenerateConfig(name="x", temperature=0.7, top_p=0.9), Tokens())  # type: ignore[arg-type]
    assert (found["do_sample"], found["temperature"], found["top_p"], found["top_k"]) == (True, 0.7, 0.9, 0)
    GenerationConfig(**found).validate(strict=True)
    greedy = generation_config(GenerateConfig(name="x"), Tokens())  # type: ignore[arg-type]
    assert greedy["do_sample"] is False
    assert not {"temperature", "top_p", "top_k"} & set(greedy)
