"""Noise in the harness's own training stage: odd combinations, layouts, pair modes, all the way to the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from support.runs import folder_of

from harness.pipeline.runner import execute
from harness.record.identity import run_id

SMALL = [
    "model=tiny",
    *(f"model.architecture.{size}" for size in ("hidden_size=32", "layers=1", "heads=2", "intermediate_size=64")),
    *("dataset.size=24", "dataset.heldout=0", "stages=[train]", "tracking=disabled"),
    *("train.batch_size=8", "train.max_steps=3", "train.log_every=1", "train.checkpoint_every=0"),
]
# Everything that is not the default, at once.
ODD = ["noise=neftune_x2", "noise.where=response", "noise.special_tokens=false", "noise.schedule=cosine", "alpha=15"]


@pytest.fixture
def train(compose: Callable[..., Any]) -> Callable[..., tuple[list[dict[str, Any]], str]]:
    """train(overrides) -> (logged rows, log)."""

    def run(*overrides: str) -> tuple[list[dict[str, Any]], str]:
        config = compose(*SMALL, *overrides)
        execute(config)
        folder = folder_of(config)
        return folder.metrics(), (folder / "log.txt").read_text()

    return run


def steps(rows: list[dict[str, Any]]) -> list[float]:
    """Loss and gradient norm of every step."""
    return [row[key] for key in ("train/loss", "train/grad_norm") for row in rows]


def test_an_odd_combination_does_not_depend_on_packing_or_micro_batches(train):
    packed, log = train(*ODD)
    assert "layout: packed" in log
    for other in (["train.layout=padded"], ["train.micro_batch_tokens=200"], ["train.pair_mode=sequential"]):
        rows, _ = train(*ODD, *other)
        # float32 sums in another order, grown over three optimiser steps.
        assert steps(rows) == pytest.approx(steps(packed), rel=2e-4)
    clean, _ = train("noise=none")
    assert packed[0]["train/grad_norm"] != pytest.approx(clean[0]["train/grad_norm"], rel=0.05)
    assert [row["noise/alpha"] for row in packed] == pytest.approx([15.0, 11.25, 3.75])  # (1 + cos(pi t)) / 2
    assert all(0 < row["noise/noised_tokens"] < 0.5 for row in packed)  # prompts are longer than answers here
    assert [row["train/rows"] for row in packed] == [16, 32, 48]


def test_relative_noise_does_not_depend_on_packing_and_is_refused_where_no_embeddings_are(train, compose):
    packed, _ = train("noise=symnoise_relative", "alpha=2")
    rows, _ = train("noise=symnoise_relative", "alpha=2", "train.layout=padded")
    assert steps(rows) == pytest.approx(steps(packed), rel=2e-4)  # as above
    # Embeddings of norm 1 a token: a ratio of 2 / sqrt(3 L), with L of some 100 tokens.
    assert all(2 / math.sqrt(3 * 300) < row["noise/ratio"] < 2 / math.sqrt(3 * 20) for row in packed)
    with pytest.raises(ValueError, match=r"noise\.scale=relative has no effect with noise.method=vat"):
        compose("noise=vat", "noise.scale=relative")


def test_the_padded_length_is_that_of_padded_batches(train):
    """In a packed row the padded width would be the whole row: another fault than the one to reproduce."""
    rows, log = train("noise=neftune_hf")
    assert "layout: padded" in log
    assert all(row["noise/noised_padding"] > 0 for row in rows)
    true, _ = train("noise=neftune")
    assert all(hf["noise/norm"] < own["noise/norm"] for hf, own in zip(rows, true, strict=True))


def test_the_row_length_is_that_of_packed_rows(train):
    rows, log = train("noise=bernoulli", "noise.length=row")
    assert "layout: packed" in log
    # A row of some dozen documents: each has the share sqrt(L_doc / L_row) of its norm 5.
    assert all(row["noise/norm"] < 0.5 * 5.0 for row in rows)


@pytest.mark.parametrize(("length", "layout", "only"), [("padded", "packed", "padded"), ("row", "padded", "packed")])
def test_a_length_without_its_layout_is_refused(length, layout, only, compose):
    message = f"train.layout={layout}: noise.length={length} means what it says in {only} batches only"
    with pytest.raises(ValueError, match=message):
        compose("noise=neftune", f"noise.length={length}", f"train.layout={layout}")
    assert compose("noise=neftune", f"noise.length={length}").train.layout == only


def test_a_row_length_needs_a_model_that_packs(train, monkeypatch):
    monkeypatch.setattr("harness.train.stage.supports_packing", lambda _: False)
    with pytest.raises(ValueError, match=r"noise.length=row: LlamaForCausalLM cannot attend within packed documents"):
        train("noise=neftune", "noise.length=row")


def test_the_pair_mode_counts_for_pairs_alone(train, compose):
    for name, runs in (("none", 1), ("neftune", 1), ("rdrop", 1), ("symnoise", 2), ("neftune_x2", 2)):
        modes = ("concat", "sequential")
        assert len({run_id(compose(f"noise={name}", f"train.pair_mode={mode}")) for mode in modes}) == runs
    rows, _ = train("noise=rdrop", "train.pair_mode=sequential")  # needs both halves in memory
    assert rows[-1]["train/penalty"] > 0
