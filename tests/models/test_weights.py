"""Weights that are not the model's are refused before anything starts: transformers would fill in random ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import environment, harness
from transformers import BertConfig, BertForMaskedLM

from harness.config import ModelConfig
from harness.config.paths import ASSETS
from harness.models.checks import check_model
from harness.models.load import load_model
from harness.models.weights import check_weights

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))


def folder(root: Path, edit: Callable[[dict[str, Any]], Any] | None = None, **changes: Any) -> ModelConfig:
    """tiny_base with other tensors or another config.json."""
    path = root / "model"
    shutil.copytree(ASSETS / "tiny_base", path)
    if edit:
        tensors = load_file(path / "model.safetensors")
        edit(tensors)
        save_file(
            {name: each.contiguous() for name, each in tensors.items()}, path / "model.safetensors", {"format": "pt"}
        )
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))
    return ModelConfig(name="local", path=str(path))


def set_to(value: float) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        tensors[UP].view(-1)[7] = value

    return edit


def test_good_weights_pass_and_are_read_once(tmp_path, monkeypatch):
    config = folder(tmp_path)
    check_weights(config)
    monkeypatch.setattr("harness.models.weights._is_finite", lambda _: False)
    check_weights(config)  # not read again


@pytest.mark.parametrize(
    ("edit", "changes", "message"),
    [
        (lambda tensors: tensors.pop(UP), {}, f"1 tensors that config.json asks for .* would be random: {UP}"),
        (lambda tensors: tensors.pop("lm_head.weight"), {}, "would be random: lm_head.weight"),
        (None, {"num_hidden_layers": 5}, r"9 tensors .* would be random: model\.layers\.4.* and 6 more"),
        (None, {"num_hidden_layers": 2}, r"hold layers that config\.json does not have: model\.layers\.2"),
        (lambda tensors: tensors.update({UP: tensors[UP][:-3]}), {}, f"1 tensors have other shapes .*{UP}"),
        (set_to(float("nan")), {}, f"model.safetensors: {UP} holds NaN or infinity"),
        (set_to(float("-inf")), {}, f"model.safetensors: {UP} holds NaN or infinity"),
        (None, {"model_type": "t5"}, "model_type=t5 is not a decoder"),
        (None, {"model_type": "llamax"}, "transformers cannot read it: .*llamax"),
        (None, {"model_type": ["llama"]}, "transformers cannot read it: "),
        (None, {"hidden_size": "32"}, "transformers cannot read it: .*hidden_size"),
        (None, {"hidden_size": None}, "transformers cannot read it: .*hidden_size"),
        (None, {"dtype": "float7"}, "transformers cannot read it: .*float7"),
    ],
)
def test_other_weights_than_the_models_are_refused(tmp_path, edit, changes, message):
    config = folder(tmp_path, edit, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        check_weights(config)
    assert str(caught.value).startswith(f"model.path={config.path}: ")


def test_half_precision_near_its_end_is_finite(tmp_path):
    check_weights(folder(tmp_path, lambda tensors: tensors.update({UP: torch.full_like(tensors[UP], 3e38)})))


def test_an_encoder_is_refused(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = folder(tmp_path)
    BertForMaskedLM(BertConfig(vocab_size=5000, **sizes)).save_pretrained(config.path)
    for refuse in (check_weights, lambda config: load_model(config, seed=0)):
        with pytest.raises(ValueError, match="model_type=bert is not a decoder"):
            refuse(config)


def test_what_is_read_later_is_held_against_its_config_too(tmp_path):
    """A Hub model has no folder to look into beforehand."""
    config = folder(tmp_path, lambda tensors: tensors.pop(UP))
    with pytest.raises(ValueError, match=f"would be random: {UP}"):
        load_model(config, seed=0)


def test_a_run_on_such_weights_starts_nothing(tmp_path):
    config = folder(tmp_path, num_hidden_layers=5)
    result = harness("model=local", f"model.path={config.path}", "tracking=disabled", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "would be random" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "null", r"config\.json: expected a mapping, found NoneType"),
        ("tokenizer.json", "[1]", r"tokenizer\.json: expected a mapping, found list"),
        ("tokenizer.json", '{"model": null}', r"tokenizer\.json: not a tokenizer of the tokenizers library"),
        ("tokenizer_config.json", "[" * 50_000, r"tokenizer_config\.json: not valid JSON"),
        ("generation_config.json", "null", r"generation_config\.json: expected a mapping"),
        ("model.safetensors.index.json", '{"weight_map": [1]}', "key weight_map: expected a mapping"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 3}}', "key weight_map: expected a mapping"),
        ("model.safetensors", None, r"model\.safetensors: not a regular file"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, name, content, message):
    config = folder(tmp_path)
    path = Path(config.path) / name
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        check_model(config)


def test_transformers_shows_no_bar_of_its_own_while_weights_are_checked():
    """In a process that has not loaded a model yet, as the command that plans."""
    asked = (
        "import harness.models.weights\n"
        "from transformers.utils.logging import is_progress_bar_enabled\n"
        "raise SystemExit(is_progress_bar_enabled())"
    )
    assert subprocess.run([sys.executable, "-c", asked], env=environment(), check=False).returncode == 0
