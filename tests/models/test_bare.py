"""Models that are built without weights, of which each process reads its rows: the same weights as read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import SMALL
from support.forked import spawn
from support.runs import folder_of
from support.tiny_models import random_documents, tiny_model
from torch import distributed
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config import LoRAConfig, ModelConfig, TrainConfig
from harness.data.batching import micro_batches
from harness.models.adapters import make_trainable
from harness.models.attention import packed_attention, supports_packing
from harness.models.load import load_model
from harness.models.shards import pieces
from harness.models.shards.bare import (
    bare_model,
    materialise,
    sample_of,
    saved_tensors,
    stand_in_weights,
    weight_files,
)
from harness.train.loss import ResponseLoss

ASSETS = Path(__file__).parents[2] / "harness" / "assets"
# 97 rows of vocabulary: neither two nor three processes have equal shares.
CASES = {
    "tied": ("llama", {"tie_word_embeddings": True}, {}),
    "in several files": ("llama", {}, {"max_shard_size": "20KB"}),
    "biases": ("qwen2", {}, {}),
    "another kind": ("gpt2", {}, {}),
    "learnt positions": ("opt", {"tie_word_embeddings": True}, {}),
}


def folder_with(place: Path, case: str, dtype: torch.dtype = torch.float32) -> ModelConfig:
    name, changes, options = CASES[case]
    tiny_model(name, **changes).to(dtype).save_pretrained(place, **options)
    AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer").save_pretrained(place)
    return ModelConfig(name="bare", path=str(place))


@pytest.fixture(autouse=True)
def any_vocabulary(monkeypatch):
    """The tokenizer beside these models has more tokens than their 97."""
    for module in ("shards.bare", "load"):
        monkeypatch.setattr(f"harness.models.{module}.check_vocabulary", lambda *_: None)


def _rank(rank: int, world: int, place: str, cases: list[str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{place}/store-{world}", rank=rank, world_size=world)
    import harness.models.shards.bare as bare_module

    bare_module.check_vocabulary = lambda *_: None
    read: list[int] = []
    copy = pieces._copy_rows
    pieces._copy_rows = lambda name, into, *rest: (read.append(into.numel()), copy(name, into, *rest))[1]
    for case in cases:
        read.clear()
        config = ModelConfig(name="bare", path=f"{place}/{case}")
        found = bare_model(config)
        assert found is not None, case
        model: Any = found.model
        assert {each.device.type for each in model.parameters()} == {"meta"}
        offload = CPUOffloadPolicy(pin_memory=False) if case == "tied" else OffloadPolicy()
        names = set(model._no_split_modules)
        for layer in [each for each in model.modules() if type(each).__name__ in names]:
            fully_shard(layer, offload_policy=offload)
        fully_shard(model, offload_policy=offload)
        materialise(model, model, found.files, torch.device("cpu"))
        whole = AutoModelForCausalLM.from_pretrained(config.path, dtype=torch.float32)
        held = dict(whole.named_parameters()) | dict(whole.named_buffers())
        for name, each in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
            full = each.full_tensor() if hasattr(each, "full_tensor") else each
            assert torch.equal(full, held[name]), (case, name)
        # Each process has read its share, and no more but for the uneven rows.
        count = sum(each.numel() for each in saved_tensors(whole).values())
        assert sum(read) <= 1.2 * count / world, (case, sum(read), count)
        ids = torch.tensor([[3, 4, 5, 6]])
        ours, theirs = (each(input_ids=ids, use_cache=False).logits for each in (model, whole.eval()))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_each_process_reads_its_rows_and_together_they_are_the_model(tmp_path, world):
    for case in CASES:
        folder_with(tmp_path / case, case, torch.bfloat16 if case == "biases" else torch.float32)
    spawn(_rank, (world, str(tmp_path), list(CASES)), nprocs=world)


def _adapted_rank(rank: int, world: int, place: str, cases: list[str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{place}/store-{world}", rank=rank, world_size=world)
    import harness.models.load as load_module
    import harness.models.shards.bare as bare_module

    bare_module.check_vocabulary = load_module.check_vocabulary = lambda *_: None
    lora = TrainConfig(name="bare", epochs=1, method="lora", lora=LoRAConfig(rank=4, targets=["all-linear"]))
    for case in cases:
        config = ModelConfig(name="bare", path=f"{place}/{case}", dtype="bfloat16" if case == "biases" else "float32")
        whole: Any = make_trainable(load_model(config, seed=0), lora, seed=3)
        found = bare_model(config)
        assert found is not None, case
        with stand_in_weights(found.model):
            model: Any = make_trainable(found.model, lora, seed=3)
        base = {name for name, each in model.named_parameters() if each.is_meta}
        assert base == {name for name, each in model.named_parameters() if not each.requires_grad}, case
        offload = CPUOffloadPolicy(pin_memory=False) if case == "tied" else OffloadPolicy()
        names = set(whole.get_base_model()._no_split_modules)
        for layer in [each for each in model.modules() if type(each).__name__ in names]:
            fully_shard(layer, offload_policy=offload)
        fully_shard(model, offload_policy=offload)
        materialise(model, model, found.files, torch.device("cpu"))
        held = dict(whole.named_parameters())
        assert held.keys() == dict(model.named_parameters()).keys(), case
        for name, each in model.named_parameters():
            assert each.requires_grad == held[name].requires_grad, (case, name)
            assert torch.equal(each.full_tensor(), held[name]), (case, name)
        assert any(held[name].any() for name in held if "lora_A" in name)
        # Training of the adapters works, too: their gradients are those of one process.
        ids = torch.tensor([[3, 4, 5, 6]])
        for each in (model, whole):
            each(input_ids=ids, use_cache=False).logits.float().square().mean().backward()
        name, ours = next((n, each) for n, each in model.named_parameters() if "lora_B" in n)
        torch.testing.assert_close(ours.grad.full_tensor(), held[name].grad, rtol=1e-4, atol=1e-6)
    distributed.destroy_process_group()


def test_adapters_on_a_base_read_by_rows_are_those_of_one_process(tmp_path):
    """Bits of the base and of the adapters, drawn by each process, on a tied, a 16-bit and a Conv1D model."""
    pytest.importorskip("peft")
    cases = ["tied", "biases", "another kind"]
    for case in cases:
        folder_with(tmp_path / case, case, torch.bfloat16 if case == "biases" else torch.float32)
    spawn(_adapted_rank, (2, str(tmp_path), cases), nprocs=2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_sharded_run_of_a_folder_trains_as_one_process_that_reads_it_whole(compose, tmp_path, method):
    """Through the whole command, two processes: bits of the weights, curve, log."""
    losses, logs = [], []
    for number, more in enumerate(((), ("train.devices=2", "train.sharding=fsdp"))):
        options = ["model=tiny_base", "train.max_steps=2", "dataset.max_length=128", "noise=symnoise", "stages=[train]"]
        options.append(f"train.method={method}")
        small = [each for each in SMALL if not each.startswith(("model", "train.max_steps"))]
        config = compose(*small, *options, f"output_dir={tmp_path / str(number)}", *more)
        from harness.pipeline.runner import execute

        execute(config)
        losses.append([row["train/loss"] for row in folder_of(config).metrics()])
        logs.append((folder_of(config) / "log.txt").read_text())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert "each process reads its rows from 1 files" in logs[1]
    assert "layout: packed" in logs[1]
    assert "each process reads" not in logs[0]


def test_a_model_whose_files_name_a_tensor_otherwise_is_loaded_whole(tmp_path):
    config = folder_with(tmp_path, "tied")
    assert bare_model(config) is not None
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {name.removeprefix("model."): each for name, each in weights.items()}  # of the bare decoder
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert bare_model(config) is None
    load_model(config, seed=0)


def test_layers_that_config_json_does_not_have_are_refused_as_when_it_is_read_whole(tmp_path):
    config = folder_with(tmp_path, "tied")
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    for load in (bare_model, lambda each: load_model(each, seed=0)):
        with pytest.raises(ValueError, match=r"hold layers that config\.json does not have"):
            load(config)


def test_files_of_a_folder_are_those_that_its_index_names(tmp_path):
    folder_with(tmp_path, "in several files")
    save_file({"other": torch.zeros(1)}, tmp_path / "consolidated.safetensors")
    names = {path.name for path in weight_files(str(tmp_path))}
    assert len(names) > 1
    assert "consolidated.safetensors" not in names
    assert weight_files(str(ASSETS / "tiny_tokenizer")) == []


@pytest.mark.parametrize("name", ["llama", "qwen2", "opt", "gpt_neox", "mistral", "gpt2", "bloom"])
def test_a_sample_of_one_layer_tells_what_the_model_would(name):
    """Whether it packs, and whether its logits are known: of the sample and of the whole."""
    model = tiny_model(name)
    sample = sample_of(model)
    assert supports_packing(sample) == supports_packing(model)
    layout = "packed" if supports_packing(model) else "padded"
    (batch,) = micro_batches(random_documents(), layout=layout)
    if layout == "packed":
        with packed_attention(model):
            assert ResponseLoss(model, sample)(batch)[0] > 0


def test_a_sample_has_a_layer_of_each_kind():
    options = {"use_sliding_window": True, "sliding_window": 4}
    for kinds, found in (
        (["sliding_attention", "sliding_attention"], ["sliding_attention"]),
        (["sliding_attention", "full_attention"], ["sliding_attention", "full_attention"]),
    ):
        model = tiny_model("qwen2", layer_types=kinds, **options)
        sample = sample_of(model)
        assert sample.config.layer_types == found
        assert len(sample.model.layers) == len(found)
        assert supports_packing(sample)
