"""Pretraining: seeded data, resuming, what the corpus of paragraphs may hold, and the shipped base model."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from support.weights import weights_hash
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.tiny_base import completions, pretrain
from harness.config.paths import ASSETS
from harness.data.builtin import generate, split_of
from harness.data.builtin.core import FAMILIES
from harness.data.builtin.corpus import keyed_paragraphs, paragraphs
from harness.data.prompts import alpaca
from harness.models.save import save_model

TINY = pretrain.Settings(
    tokens=6 * 512, hidden_size=16, layers=1, heads=2, intermediate_size=16, batch_tokens=512, bf16=False
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer")


@pytest.fixture(scope="module")
def base():
    folder = ASSETS / "tiny_base"
    if not (folder / "model.safetensors").exists():
        pytest.skip("the package holds no base model")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_paragraphs_state_no_problem_of_heldout_or_unseen():
    keys = [key for found, _ in islice(keyed_paragraphs(7), 8000) for key in found]
    assert {split_of(key) for key in keys} == {"train"}
    assert len({key.partition(":")[0] for key in keys}) >= 20


def test_paragraphs_say_one_problem_in_different_words():
    repeated = 0
    for keys, text in islice(keyed_paragraphs(8), 2000):
        if len(keys) > 1 and len(set(keys)) == 1:
            repeated += 1
            assert not re.fullmatch(r"(.+)\s(\1\s)*\1", text, re.DOTALL), text
    assert repeated > 20


def test_a_step_reads_its_own_rows_whenever_it_is_asked(tokenizer):
    first, fourth = (pretrain.batch_of(step, TINY, tokenizer) for step in (0, 3))
    assert (first.shape, fourth.shape) == ((4, 128), (2, 256))
    assert torch.equal(first, pretrain.batch_of(0, TINY, tokenizer))
    other = pretrain.batch_of(0, replace(TINY, seed=1), tokenizer)
    assert not torch.equal(first, other)
    assert not torch.equal(first, pretrain.batch_of(1, TINY, tokenizer))


def test_rows_are_paragraphs_end_to_end(tokenizer):
    ids = pretrain.batch_of(0, TINY, tokenizer).flatten().tolist()
    documents = tokenizer.decode(ids).split(tokenizer.eos_token)
    stream = paragraphs((TINY.seed + 1) * pretrain._CORPUS_SEED)
    for document, text in zip(documents[:-1], stream, strict=False):
        assert document == tokenizer.bos_token + text


def test_loss_is_that_of_the_next_token(tokenizer):
    model = pretrain.build(TINY, tokenizer)
    ids = torch.tensor([[1, 30, 40, 50]])
    log_probabilities = model(input_ids=ids).logits.double().log_softmax(-1)
    expected = -sum(log_probabilities[0, i, ids[0, i + 1]] for i in range(3)) / 3
    torch.testing.assert_close(pretrain.loss_of(model, ids).double(), expected, rtol=1e-5, atol=0)  # float32 rounding


def test_muon_has_the_matrices_of_the_layers_and_nothing_is_left_out(tokenizer):
    model = pretrain.build(TINY, tokenizer)
    adam, muon = pretrain.optimizers_of(model, TINY)
    sizes = [sum(p.numel() for g in each.param_groups for p in g["params"]) for each in (adam, muon)]
    assert sizes[1] == 4 * 16 * 16 + 3 * 16 * 16
    assert sum(sizes) == sum(p.numel() for p in model.parameters())


def test_the_rate_rises_stays_and_falls_to_nothing():
    settings = replace(TINY, tokens=100 * 512, warmup_ratio=0.1, decay_ratio=0.4)
    rates = [pretrain.rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert set(rates[10:60]) == {1.0}
    assert rates[60:] == pytest.approx([step / 40 for step in range(40, 0, -1)])


def test_a_start_scaled_is_the_same_function_with_longer_embeddings(tmp_path: Path, tokenizer):
    first = pretrain.build(replace(TINY, seed=3), tokenizer)
    save_model(first, tokenizer, tmp_path)
    scaled = pretrain.build(replace(TINY, start=str(tmp_path), start_scale=1.5), tokenizer)
    ids = torch.arange(40).view(2, 20)
    # The norms' epsilon, 1e-6 beside a mean square of 0.4, is all that the scale does not cancel in.
    torch.testing.assert_close(scaled(input_ids=ids).logits, first(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    one, other = (each.get_input_embeddings().weight for each in (scaled, first))
    torch.testing.assert_close(one, 1.5 * other)


def test_an_interrupted_run_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = pretrain.pretrain(TINY, tmp_path / "whole")
    train_step = pretrain._train_step

    def crash(model, objective, optimizers, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        return train_step(model, objective, optimizers, step, *rest)

    monkeypatch.setattr(pretrain, "_train_step", crash)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(TINY, tmp_path / "cut", checkpoint_minutes=0)
    monkeypatch.setattr(pretrain, "_train_step", train_step)
    with pytest.raises(ValueError, match="belongs to other settings"):
        pretrain.pretrain(replace(TINY, seed=1), tmp_path / "cut")
    cut = pretrain.pretrain(TINY, tmp_path / "cut")
    hashes = {weights_hash(AutoModelForCausalLM.from_pretrained(folder)) for folder in (whole, cut)}
    assert len(hashes) == 1
    untrained = pretrain.build(TINY, AutoTokenizer.from_pretrained(whole))
    assert weights_hash(untrained) not in hashes


def test_a_finished_run_goes_on_with_more_tokens(tmp_path: Path):
    steps = []
    for tokens in (2 * 512, 2 * 512, 5 * 512):
        pretrain.pretrain(replace(TINY, tokens=tokens), tmp_path)
        log = (tmp_path / "log.jsonl").read_text().splitlines()
        steps.append([json.loads(line)["step"] for line in log])
    assert steps == [[2], [2], [2, 5]]


def test_probe_asks_only_what_the_beginning_determines():
    ends = dict(completions._whole_before_answer(FAMILIES["sort_numbers"]))
    assert "Sorted from {direction}, {numbers} becomes " in ends
    assert "From {direction}: " not in ends
    asked = completions.questions(FAMILIES["add"], "heldout", 20, seed=0)
    for beginning, answer in asked:
        numbers = [int(word.strip("+,.")) for word in beginning.split() if word.strip("+,.").isdigit()]
        assert sum(numbers) == int(answer)


def test_probe_agrees_with_greedy_decoding(base):
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_base")
    asked = completions.questions(FAMILIES["largest_number"], "heldout", 12, seed=0)
    asked += completions.questions(FAMILIES["subtract"], "heldout", 12, seed=0)
    marks = completions.completes(base, tokenizer, asked)
    for (beginning, answer), mark in zip(asked, marks, strict=True):
        answer_ids = tokenizer(beginning + answer).input_ids
        prompt = tokenizer(beginning.rstrip(), return_tensors="pt")
        start = prompt.input_ids.shape[1]
        made = base.generate(**prompt, max_new_tokens=len(answer_ids) - start, do_sample=False)
        assert mark == (made[0].tolist() == answer_ids)
    assert len(set(marks)) == 2  # otherwise the comparison says little


def test_the_base_model_is_small_and_has_the_tokenizer_of_the_package(base, tokenizer):
    folder = ASSETS / "tiny_base"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    own = AutoTokenizer.from_pretrained(folder)
    assert own.get_vocab() == tokenizer.get_vocab()
    assert len(own) == base.config.vocab_size
    assert own("37 + 25 = 62\n- x").input_ids == tokenizer("37 + 25 = 62\n- x").input_ids


def test_the_base_model_knows_new_text_as_its_card_says(base, tokenizer):
    """The card's figure, 0.01 for other machines; a uniform guess would cost 6.9 nats."""
    loss = pretrain.evaluate(base, tokenizer)
    card = (ASSETS / "tiny_base" / "README.md").read_text(encoding="utf-8")
    said = float(card.partition("loss on new text: ")[2].split()[0])
    assert loss == pytest.approx(said, abs=0.01)


def test_noise_is_to_its_embeddings_what_it_is_to_those_of_real_models(base, tokenizer):
    """Norm of the noise of alpha 5 over that of the embeddings: 0.05 to 0.13 in SmolLM2-135M on Alpaca rows."""
    embed = base.get_input_embeddings()
    ratios = []
    for item in generate("train", 100, seed=0):
        ids = tokenizer(alpaca(item.instruction, item.input) + item.output, return_tensors="pt").input_ids
        ratios.append(5 / math.sqrt(3) / float(embed(ids).detach().norm()))
    assert 0.07 < sorted(ratios)[50] < 0.10
