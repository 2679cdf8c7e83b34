"""harness.explain=true: the papers' numbers, marked differences, and estimates near what is measured."""

from __future__ import annotations

import json

import pytest
import torch
from support.commands import SMALL
from support.tiny_models import random_documents

from harness.config.paths import conf_dir
from harness.data.batching import micro_batches
from harness.models.adapters import make_trainable
from harness.models.attention import packed_attention
from harness.models.load import load_model
from harness.models.meta import meta_model
from harness.pipeline.explain import explain
from harness.pipeline.explain.estimate import activations, memory, size_of
from harness.pipeline.explain.papers import facts, recipe_for
from harness.train.loss import hidden_states

PAPERS = {
    "neftune_paper": ["noise=neftune", "model=llama2_7b"],
    "symnoise_paper": ["noise=symnoise", "model=llama2_7b"],
    "neftune_paper_70b": ["noise=neftune", "model=llama2_70b"],
    "qlora_paper": ["noise=neftune", "model=llama2_7b"],
}


def differing(config) -> set[str]:
    found = set()
    for fact in facts(recipe_for(config), config):
        value = config
        for part in fact.key.split("."):
            value = getattr(value, part)
        if value not in fact.values:
            found.add(fact.key)
    return found


@pytest.mark.parametrize("recipe", PAPERS)
def test_a_papers_recipe_has_every_number_of_the_paper(recipe, compose):
    config = compose(f"train={recipe}", "dataset=alpaca", "generate=paper", *PAPERS[recipe])
    assert recipe_for(config) == recipe
    # The mean over all response tokens is kept on purpose (docs/models.md).
    assert differing(config) == {"train.loss"}


def test_the_seventy_billion_recipe_by_hand(compose):
    config = compose("train=neftune_paper_70b", "model=llama2_70b", "dataset=alpaca")
    train = config.train
    assert (train.lr, train.weight_decay, train.batch_size) == (2e-5, 0.1, 64)
    assert (config.dataset.max_length, config.alpha) == (2048, 15.0)
    # The command line wins over the recipe.
    assert compose("train=neftune_paper_70b", "alpha=5", "dataset.max_length=64").alpha == 5.0


def test_each_difference_is_marked(compose):
    config = compose("train=neftune_paper", "train.lr=1e-4", "dataset=alpaca", "alpha=10", "generate=paper")
    assert differing(config) == {"train.lr", "alpha", "train.loss"}
    marked = [line.split()[1] for line in explain(config, "x").splitlines() if line.strip().startswith("*")]
    assert set(marked) == {"train.lr", "alpha", "train.loss"}


def test_it_needs_no_weights_and_no_data(compose):
    text = explain(compose("train=neftune_paper", "model=llama2_7b", "dataset=alpaca", "noise=symnoise"), "x")
    assert "parameters: 6,738,415,616, trained 6,738,415,616 (all)" in text
    # 52,002 rows, less 64 held out, in batches of 128, three times
    assert "training: 1,218 steps of 128 documents" in text
    assert "effective batch: 128 examples a step, 2 rows each" in text
    assert "(estimate)" in text


def test_memory_by_hand(compose):
    config = compose("train=neftune_paper", "model=llama2_7b", "dataset=alpaca")
    bare = meta_model(config.model)
    parts = memory(config, size_of(make_trainable(bare, config.train), bare))
    count = 6_738_415_616
    assert parts["weights"] == parts["gradients"] == 4 * count
    assert (parts["optimiser"], parts["16-bit copies"]) == (8 * count, 2 * count)
    # 2048 tokens x 32 layers x (8 x 4096 + 2 x 4096 + 4 x 11008) numbers of 2 bytes
    assert parts["activations"] == 2 * 2048 * 32 * (10 * 4096 + 4 * 11008)


def test_adapters_and_four_bits_need_less(compose):
    def parts_of(*overrides):
        config = compose("model=llama2_7b", "dataset=alpaca", *overrides)
        bare = meta_model(config.model)
        return memory(config, size_of(make_trainable(bare, config.train), bare))

    lora, qlora = parts_of("train=neftune_paper", "train.method=lora"), parts_of("train=qlora_paper")
    # Rank 16 on q, k, v, o (4096 to 4096), gate, up and down (4096 and 11008), 32 layers, 4 bytes
    assert lora["gradients"] == 4 * 32 * 16 * (4 * 8192 + 3 * (4096 + 11008))
    assert qlora["weights"] < 0.25 * lora["weights"]


def test_activations_are_near_what_autograd_keeps(compose):
    # Sizes in a real model's proportions; norms in float32 and rotary copies are what the formula leaves out.
    sizes = ["model.architecture.hidden_size=64", "model.architecture.intermediate_size=176"]
    sizes += ["model.architecture.layers=4", "train.micro_batch_tokens=100", "dataset.max_length=100"]
    config = compose(*SMALL, *sizes)
    model = load_model(config.model, seed=0).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    (batch,) = micro_batches(random_documents((60, 40)), layout="packed", max_tokens=100)
    with packed_attention(model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden_states(model, batch)
        measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    estimated = 4 * activations(config, size_of(model, model))
    assert measured / 1.5 < estimated < measured * 1.5


def test_a_command_prints_and_writes_nothing(tmp_path):
    from support.commands import harness

    arguments = ["model=llama2_7b", "train=neftune_paper", "dataset=alpaca", "harness.explain=true"]
    result = harness("-m", "noise=neftune,symnoise", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("recipe against") == 2
    assert result.stdout.count("memory of a device while training (estimate)") == 2
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_dropped_are_not_counted(compose, tmp_path):
    rows = [{"instruction": f"{n} " + "why " * (400 if n % 2 else 1), "output": "Because."} for n in range(40)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    data = ["dataset=local", f"dataset.path={path}", "dataset.heldout=4", "dataset.clean.long_prompts=drop"]
    assert "data: 16 examples of about" in (counted := explain(compose(*SMALL[:5], *data), "x"))
    assert "(tokenised, after all rules of dataset.clean)" in counted
    estimated = explain(compose("model=smollm2_135m", *data), "x")
    assert "data: 36 examples of about" in estimated
    assert "before clean.long_prompts and clean.overlong drop any)" in estimated


def test_tables_by_data_set_name_the_data_sets_of_conf():
    from harness.judge.results import WORDS
    from harness.pipeline.explain.papers import _ALPHA, ROWS

    known = {path.stem for path in (conf_dir() / "dataset").glob("*.yaml")}
    for table in (WORDS, ROWS, _ALPHA):
        assert set(table) <= known
    assert set(WORDS) == set(ROWS)
