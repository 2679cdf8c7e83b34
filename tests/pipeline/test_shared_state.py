"""Runs of one process share data and imports, and nothing that training changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import ROOT, SMALL, environment
from support.forked import run_module
from support.weights import weights_hash

from harness.config import DatasetConfig, ModelConfig
from harness.data.documents import load_documents
from harness.models.load import load_model

TINY_BASE = ModelConfig(name="tiny_base", path=str(ROOT / "harness/assets/tiny_base"))
BUILTIN = DatasetConfig(name="builtin", size=8, heldout=2)


def test_a_model_is_loaded_anew_whatever_was_done_to_the_one_before() -> None:
    first = load_model(TINY_BASE, seed=0)
    before = weights_hash(first)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    assert weights_hash(first) != before
    assert weights_hash(load_model(TINY_BASE, seed=0)) == before


def test_tokenised_data_is_shared_and_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path))
    made = load_documents(BUILTIN, TINY_BASE)
    assert load_documents(BUILTIN, TINY_BASE) is made
    assert (len(made.train), len(made.heldout)) == (8, 2)
    load_documents.cache_clear()
    for data in (made, load_documents(BUILTIN, TINY_BASE)):
        for array in (data.train[0].input_ids, data.heldout[0].labels):
            assert isinstance(array, np.ndarray)
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_the_second_run_of_a_sweep_is_the_run_it_would_be_alone(tmp_path: Path) -> None:
    settings = [each for each in SMALL if not each.startswith("model")]
    settings += ["noise=symnoise", "train.max_steps=3", "tracking=disabled"]
    _harness("-m", *settings, "alpha=50,5", "harness.workers=1", "output_dir=sweep", cwd=tmp_path)
    _harness(*settings, "alpha=5", "output_dir=alone", cwd=tmp_path)
    (alone,) = (tmp_path / "alone").glob("tiny_base-*")
    for file in ("metrics.jsonl", "model_outputs.json"):
        assert _without_times(tmp_path / "sweep" / alone.name / file) == _without_times(alone / file)


def _harness(*arguments: str, cwd: Path) -> None:
    run_module("harness", *arguments, cwd=cwd, env=environment()).check_returncode()


def _without_times(path: Path) -> list[dict[str, object]]:
    text = path.read_text()
    rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    measured = ("second", "memory", "time_percent")  # of the process, not of the run
    return [{key: value for key, value in row.items() if not any(word in key for word in measured)} for row in rows]
