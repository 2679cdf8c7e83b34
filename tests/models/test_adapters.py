"""What is trained: frozen parts, adapters, optimisers by name; whole runs with each."""

from __future__ import annotations

import json
import re

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from support.commands import SMALL
from support.runs import folder_of
from support.tiny_models import tiny_model
from support.tokenizers_by_hand import TOKENIZER
from transformers import AutoModelForCausalLM

from harness.config import LoRAConfig, TrainConfig
from harness.models.adapters import check_quantisation, for_inference, make_trainable, peft_warnings
from harness.models.save import save_model
from harness.pipeline.plan import make_plan
from harness.pipeline.runner import execute
from harness.probe.weights import weight_distance
from harness.train.optimizer import build_optimizer, check_optimizer


def train_config(**changes) -> TrainConfig:
    return TrainConfig(name="test", epochs=1, **changes)


def trained_names(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("part", "frozen"),
    [
        ("embeddings", {"model.embed_tokens.weight"}),
        ("head", {"lm_head.weight"}),
        ("attention", {f"model.layers.{n}.self_attn.{p}_proj.weight" for n in (0, 1) for p in "qkvo"}),
        ("model.layers.1.mlp.*", {f"model.layers.1.mlp.{p}_proj.weight" for p in ("gate", "up", "down")}),
    ],
)
def test_frozen_parts_are_those_named(part, frozen):
    model = tiny_model("llama", tie_word_embeddings=False)
    everything = trained_names(model)
    make_trainable(model, train_config(freeze=[part]))
    assert everything - trained_names(model) == frozen


@pytest.mark.parametrize("name", ["gpt_neox", "opt", "gemma2", "bloom"])
def test_attention_is_found_in_other_architectures(name):
    model = tiny_model(name)
    make_trainable(model, train_config(freeze=["attention"]))
    frozen = {n for n, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert all("att" in each and "norm" not in each.split(".")[-2] for each in frozen)


def test_bad_parts_are_named():
    model = tiny_model("llama", tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"'model\.layer\.\*' matches no parameter of LlamaForCausalLM; choose from"):
        make_trainable(model, train_config(freeze=["model.layer.*"]))
    with pytest.raises(ValueError, match="head and embeddings are one tensor: give both or neither"):
        make_trainable(model, train_config(freeze=["head"]))
    with pytest.raises(ValueError, match="nothing is left to train"):
        make_trainable(model, train_config(freeze=["*"]))


def test_adapters_start_at_the_base_model_and_train_alone():
    model = tiny_model("llama").eval()
    ids = torch.arange(2, 12)[None]
    base = model(ids).logits
    adapted = make_trainable(model, train_config(method="lora", lora=LoRAConfig(rank=4))).eval()
    torch.testing.assert_close(adapted(ids).logits, base, rtol=0, atol=0)
    assert all("lora_" in name for name in trained_names(adapted))
    # 2 layers x 7 linear layers x (A and B)
    assert len(trained_names(adapted)) == 28


def test_the_seed_decides_the_adapters():
    def first(seed):
        model = make_trainable(tiny_model("llama"), train_config(method="lora"), seed)
        return next(parameter for name, parameter in model.named_parameters() if "lora_A" in name)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_merging_keeps_the_function():
    model = make_trainable(tiny_model("llama"), train_config(method="lora", lora=LoRAConfig(rank=4)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids = torch.arange(2, 12)[None]
    before = model.eval()(ids).logits
    merged = for_inference(model)
    assert type(merged).__name__ == "LlamaForCausalLM"
    # Float32 sums in another order.
    torch.testing.assert_close(merged(ids).logits, before, rtol=1e-4, atol=1e-4)


def test_unknown_adapter_targets_are_named_even_beside_known_ones():
    settings = train_config(method="lora", lora=LoRAConfig(targets=["q_proj", "v_prok"]))
    with pytest.raises(
        ValueError, match=r"'v_prok' matches the end of no module name .* linear layers: down_proj, gate_proj"
    ):
        make_trainable(tiny_model("llama"), settings)


def test_qlora_is_refused_before_anything_loads(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(ValueError, match="bitsandbytes is not installed"):
        check_quantisation()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA GPU, and none is visible here"):
        check_quantisation()


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({}, 2.0),
        ({"optimizer": "SGD"}, 0.0),
        ({"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}, 1.0),
        ({"optimizer": "Adafactor"}, 2 / 64),
        ({"optimizer": "NAdam", "optimizer_options": {"betas": [0.8, 0.9]}}, 2.0),
    ],
)
def test_optimisers_by_name_and_what_they_keep(settings, state):
    assert check_optimizer(train_config(**settings)) == pytest.approx(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "Adamm"}, "train.optimizer=Adamm: no such class in torch.optim; choose from ASGD"),
        ({"optimizer": "Optimizer"}, "train.optimizer=Optimizer: no such class"),
        ({"optimizer_options": {"momentum": 0.9}}, "torch.optim.AdamW has no momentum; it has betas, eps"),
        ({"optimizer_options": {"betas": [2.0, 0.9]}}, "cannot train a matrix and a vector: Invalid beta"),
        ({"optimizer": "LBFGS"}, "train.optimizer=LBFGS.*closure"),
        ({"optimizer": "SparseAdam"}, "train.optimizer=SparseAdam.*dense gradients"),
        ({"optimizer": "Muon"}, "train.optimizer=Muon.*2D"),
        ({"optimizer": "Rprop", "weight_decay": 0.1}, "train.weight_decay=0.1: torch.optim.Rprop has no weight decay"),
    ],
)
def test_what_cannot_train_is_refused_with_the_reason(settings, message):
    with pytest.raises(ValueError, match=message):
        check_optimizer(train_config(**settings))


def test_options_reach_torch_and_frozen_parameters_stay_out():
    model = tiny_model("llama", tie_word_embeddings=False)
    settings = train_config(optimizer_options={"betas": [0.8, 0.95]}, freeze=["head"], lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(make_trainable(model, settings).parameters(), settings)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["lr"], group["weight_decay"], group["fused"]) == ((0.8, 0.95), 0.01, 0.1, True)
    assert not any(parameter is model.lm_head.weight for parameter in group["params"])


def test_keys_without_effect_are_refused(compose):
    with pytest.raises(ValueError, match=r"lora has no effect with train\.method=full"):
        compose("train.lora.rank=4")
    with pytest.raises(ValueError, match=r"freeze=\['head'\] has no effect with train.method=lora"):
        compose("train.method=lora", "train.freeze=[head]")
    with pytest.raises(ValueError, match=r"optimizer_options contains lr: give train\.lr"):
        compose("train.optimizer_options={lr: 1}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.freeze=[model.layer.0]", "matches no parameter of LlamaForCausalLM"),
        ("train.optimizer=Adamm", "no such class in torch.optim"),
        ("train.method=qlora", "train.method=qlora"),
    ],
)
def test_a_plan_refuses_them_before_the_first_run(override, message, compose):
    with pytest.raises(ValueError, match=message):
        make_plan([compose(*SMALL, override)])


def test_a_frozen_part_is_bitwise_the_base_models_after_a_run(compose):
    config = compose(*SMALL, "train.freeze=[embeddings,'model.layers.0.mlp.*']")
    execute(config)
    from harness.models.load import load_model

    before = load_model(config.model, config.seed).state_dict()
    after = load_file(folder_of(config) / "model" / "model.safetensors")
    same = {name for name in after if torch.equal(after[name], before[name])}
    frozen = {"model.embed_tokens.weight", *(f"model.layers.0.mlp.{p}_proj.weight" for p in ("gate", "up", "down"))}
    assert same == frozen


@pytest.mark.parametrize("noise", ["none", "neftune", "symnoise"])
def test_a_lora_run_saves_an_adapter_and_generates_from_base_and_adapter(noise, compose, tmp_path):
    lora = [*SMALL, "train.method=lora", "train.lora.rank=4", "train.lr=0.01", f"noise={noise}"]
    whole = execute(compose(*lora))
    folder = folder_of(compose(*lora))
    files = {path.name for path in (folder / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert not files & {"model.safetensors", "README.md"}
    assert all(".lora_" in name for name in load_file(folder / "model" / "adapter_model.safetensors"))
    if noise != "none":
        alpha = 5.0 / 3**0.5 if noise == "neftune" else 5.0
        assert folder.metrics()[0]["noise/norm"] == pytest.approx(alpha, rel=0.05)
    apart = [*lora, f"output_dir={tmp_path / 'apart'}"]
    execute(compose(*apart, "stages=[train]"))
    last = execute(compose(*apart, "stages=[generate,judge]"))
    rows, again = (json.loads((folder_of(compose(*c)) / "model_outputs.json").read_text()) for c in (lora, apart))
    assert rows == again
    assert last["final"]["train/loss"] == whole["final"]["train/loss"]


def test_sweeps_compose_with_each_way_to_train(compose):
    plan = make_plan([compose(*SMALL, f"train.method={m}") for m in ("full", "lora")])
    assert len({job.run_id for job in plan.jobs}) == 2
    assert re.match("tiny-builtin-neftune", plan.jobs[0].run_id)


@pytest.mark.parametrize("way", [["train.method=lora", "train.lora.rank=4"], ["train.freeze=[attention,head]"]])
def test_an_interrupted_run_resumes_from_what_is_trained(way, compose, tmp_path, monkeypatch):
    undisturbed = compose(*SMALL, *way, "noise=symnoise", "stages=[train]")
    execute(undisturbed)
    config = compose(*SMALL, *way, "noise=symnoise", "stages=[train]", f"output_dir={tmp_path / 'disturbed'}")
    with monkeypatch.context() as patch:
        patch.setattr("harness.train.stage.save_model", lambda *_, **__: 1 / 0)
        with pytest.raises(ValueError, match="ZeroDivisionError"):
            execute(config)
    (file,) = (folder_of(config) / "checkpoints" / "step-00000004").glob("model*.safetensors")
    checkpoint = load_file(file)
    # A and B of 7 linear layers; or the embedding, three of the feed-forward layer and three norms.
    assert len(checkpoint) == (14 if "lora" in way[0] else 7)
    execute(config)
    assert folder_of(config).metrics()[-1]["train/loss"] == folder_of(undisturbed).metrics()[-1]["train/loss"]
    name = "adapter_model.safetensors" if "lora" in way[0] else "model.safetensors"
    ours, expected = (load_file(folder_of(each) / "model" / name) for each in (config, undisturbed))
    assert all(torch.equal(ours[key], expected[key]) for key in expected)


def test_the_distance_of_adapters_is_that_of_merged_weights():
    model = make_trainable(tiny_model("llama"), train_config(method="lora", lora=LoRAConfig(rank=4)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    beside = weight_distance(model, tiny_model("llama"))
    assert beside["weight_distance"] > 0.1
    assert beside == pytest.approx(weight_distance(for_inference(model), tiny_model("llama")), rel=1e-4)


def test_adapters_beside_sixteen_bits_go_through_every_stage(compose):
    config = compose(*SMALL, "train.method=lora", "train.lora.rank=4", "model.dtype=bfloat16", "noise=symnoise")
    final = execute(config)["final"]
    assert final["probe/weight_distance"] > 0
    assert {"generate/characters", "judge/win_rate", "eval/loss"} <= set(final)


def _qlora_read_back(config, folder, four_bits):
    """Logits of a trained adapter on its base: in memory before it is saved, and read back."""
    from harness.models.load import load_model, load_trained
    from harness.models.save import save_model
    from harness.models.tokenizer import load_tokenizer

    settings = train_config(method="qlora", lora=LoRAConfig(rank=4))
    model = make_trainable(load_model(config, 0, four_bits=four_bits), settings)
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
        model.eval()
        memory = model(input_ids=ids).logits.float()
        save_model(model, load_tokenizer(config), folder)
        again = load_trained(config, 0, folder, four_bits).eval()
        read = again(input_ids=ids).logits.float()
    assert {n: p.dtype for n, p in model.named_parameters()} == {n: p.dtype for n, p in again.named_parameters()}
    return memory, read


def test_embedding_norms_and_head_of_a_qlora_base_are_read_back_as_they_were_trained(compose, tmp_path, monkeypatch):
    # A base of 16 bits that says that it is one of 4: what the adapters stand beside is cast by the same code.
    import harness.models.load

    pytest.importorskip("peft")
    load = harness.models.load.load_model

    def load_as_quantised(*arguments, four_bits=None):
        model = load(*arguments)
        model.is_quantized = model.is_loaded_in_4bit = four_bits is not None
        return model

    monkeypatch.setattr(harness.models.load, "load_model", load_as_quantised)
    config = compose(*SMALL, "model.dtype=bfloat16").model
    memory, read = _qlora_read_back(config, tmp_path / "model", LoRAConfig())
    assert torch.equal(memory, read)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_qlora_model_answers_alike_when_it_is_read_back(dtype, compose, tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs the extra `qlora`")
    config = compose("model=tiny_base", f"model.dtype={dtype}").model
    memory, read = _qlora_read_back(config, tmp_path / "model", LoRAConfig())
    assert torch.equal(memory, read)


@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"], ["wte", "c_attn"]])
def test_merging_into_tied_weights_keeps_the_function(targets, tmp_path):
    """Embedding and head are one tensor; an adapter on one of them must leave the other as it was in training."""
    name = "gpt2" if "wte" in targets else "llama"
    model = make_trainable(
        tiny_model(name, tie_word_embeddings=True), train_config(method="lora", lora=LoRAConfig(targets=targets))
    )
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(std=0.3)
    ids = torch.arange(2, 12)[None]
    trained = model.eval()(ids).logits
    save_model(model, TOKENIZER, tmp_path / "adapter")
    merged = for_inference(model)
    # Float32 sums in another order.
    torch.testing.assert_close(merged(ids).logits, trained, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(saved(ids).logits, trained, rtol=1e-4, atol=1e-4)
    base = tiny_model(name, tie_word_embeddings=True)
    with peft_warnings():
        again = for_inference(PeftModel.from_pretrained(base, tmp_path / "adapter")).eval()
    torch.testing.assert_close(again(ids).logits, trained, rtol=1e-4, atol=1e-4)
