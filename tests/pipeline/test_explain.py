"""harness.explain=true: the papers' numbers, marked differences, and estimates near what is measured."""

from __future__ import annotations

import gc
import json
import re
import warnings
import weakref

import pytest
import torch
from support.commands import ROOT, SMALL
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from harness.config.paths import conf_dir
from harness.data.batching import Batch
from harness.models.adapters import make_trainable
from harness.models.attention import packed_attention
from harness.models.load import checkpoint_layers
from harness.models.meta import meta_model
from harness.pipeline.explain import explain
from harness.pipeline.explain.estimate import activations, checkpoint, loading, memory, size_of
from harness.pipeline.explain.papers import facts, recipe_for
from harness.pipeline.explain.rates import GPUS, rate, seconds_of_answers
from harness.pipeline.plan import job_of
from harness.pipeline.runner import execute
from harness.pipeline.stages import prepare
from harness.train.loss import hidden_states
from harness.train.optimizer import lost_updates, moved_share

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


def parts_of(compose, *overrides, devices=1):
    config = compose("dataset=alpaca", *overrides)
    bare = meta_model(config.model)
    return memory(config, size_of(make_trainable(bare, config.train), bare), devices)


def test_memory_by_hand(compose):
    """LLaMA-2-7B on one device under autocast; h = 4096, f = 11008, 32 layers and heads, V = 32000."""
    parts = parts_of(compose, "train=neftune_paper", "model=llama2_7b")
    count, embedding = 6_738_415_616, 32000 * 4096
    assert parts["weights"] == parts["gradients"] == 4 * count
    assert parts["optimiser"] == 8 * count
    # All but the embedding; the last norm's 4096 weights are outside of the layers, too, and not cast.
    assert parts["16-bit copies"] == 2 * (count - embedding - 4096)
    # A token of a layer: 26 h + 4 h + 4 h + 8 f, 4 bytes a head; outside 12 h.
    assert parts["activations"] == 2048 * (32 * (34 * 4096 + 8 * 11008 + 4 * 32) + 12 * 4096)


# h, f, width of keys, layers, heads, parameters; each device's GB in shards over 8 or 16, by hand.
SHARDED = {
    "llama2_7b": (4096, 11008, 4096, 32, 32, 6_738_415_616),
    "llama2_13b": (5120, 13824, 5120, 40, 40, 13_015_864_320),
    "llama2_70b": (8192, 28672, 1024, 80, 64, 68_976_648_192),
}


@pytest.mark.parametrize("model", SHARDED)
@pytest.mark.parametrize("offload", [False, True])
def test_shards_by_hand(compose, model, offload):
    hidden, wide, keys, layers, heads, count = SHARDED[model]
    nodes = 2 if offload else 1
    options = ["train=fsdp_2node" if offload else "train=fsdp_8gpu", f"train.cpu_offload={str(offload).lower()}"]
    fixed = ["train.micro_batch_tokens=2048", "dataset.max_length=2048", "noise=none"]
    parts = parts_of(
        compose, *options, *fixed, f"model={model}", "model.gradient_checkpointing=true", devices=8 * nodes
    )
    if offload:
        assert not {"weights", "gradients", "optimiser"} & parts.keys()
    else:
        assert sum(parts[name] for name in ("weights", "gradients", "optimiser")) == 16 * count / 8
    table = 32000 * hidden
    layer = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * wide + 2 * hidden
    assert 2 * table + hidden + layers * layer == count
    # Embedding, norm and head with their gradients in float32; two layers in bf16, one's gradients in bf16 and float32.
    assert parts["gathered"] == 8 * (2 * table + hidden) + 10 * layer
    assert parts["16-bit copies"] == 2 * table
    a_layer = 30 * hidden + 4 * keys + 8 * wide + 4 * heads
    assert parts["activations"] == 2048 * (layers * 4 * hidden + a_layer + 12 * hidden)


@pytest.mark.parametrize(
    ("model", "precision", "dtype"),
    [
        ("llama2_7b", "bf16", "float32"),
        ("llama2_7b", "fp32", "float32"),
        ("llama2_7b", "fp32", "bfloat16"),
        ("llama2_13b", "bf16", "float32"),
        ("llama2_70b", "bf16", "float32"),
        ("llama2_70b", "fp32", "bfloat16"),
        ("qwen2_5_7b", "bf16", "float32"),
        ("opt_6_7b", "bf16", "float32"),
        ("pythia_1_4b", "bf16", "float32"),
    ],
)
@pytest.mark.parametrize("checkpointing", ["false", "true", "selective"])
def test_activations_are_what_a_forward_pass_leaves_behind(compose, model, precision, dtype, checkpointing):
    """By FakeTensor, which computes shapes alone: two layers and three of each width, the rest by their difference."""

    options = [f"model={model}", f"model.dtype={dtype}", f"model.gradient_checkpointing={checkpointing}"]
    config = compose(
        *options, f"train.precision={precision}", "train.micro_batch_tokens=512", "dataset.max_length=1000"
    )
    plain = config.model_copy(update={"model": config.model.model_copy(update={"gradient_checkpointing": False})})
    bare = meta_model(config.model)
    size = size_of(bare, bare)
    two, three = (kept_by_a_pass(config, layers, 1000) for layers in (2, 3))
    expected = two + (size.layers - 2) * (three - two)
    if checkpointing != "false":  # one layer at a time is recomputed, whole
        expected += kept_by_a_pass(plain, 3, 1000) - kept_by_a_pass(plain, 2, 1000) - (three - two)
    assert activations(config, size) == pytest.approx(expected, rel=0.1)


class Living(TorchDispatchMode):
    """The storages that operations have made and that somebody still holds: autograd or a checkpoint's policy."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[int, torch.Size]] = {}  # by identity: bytes, shape of the first tensor in it

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in (each for each in tree_leaves(result) if isinstance(each, torch.Tensor)):
            storage = tensor.untyped_storage()
            if id(storage) not in self.found:
                self.found[id(storage)] = (storage.nbytes(), tensor.shape)
                weakref.finalize(storage, self.found.pop, id(storage), None)
        return result


def kept_by_a_pass(config, layers: int, tokens: int) -> int:
    """Bytes that live after a forward pass over packed documents, without weights and their copies."""
    shape = meta_model(config.model).config
    shape.num_hidden_layers = layers
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[:layers]
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.model.dtype)).train()
        if how := config.model.gradient_checkpointing:
            checkpoint_layers(model, selective=how == "selective")
        weights = {tuple(each.shape) for each in model.parameters()}
        weights |= {shape[::-1] for shape in weights}
        ids = torch.ones(1, tokens, dtype=torch.int64)
        batch = Batch(*(ids,) * 6, (0, 1), ((tokens // 2,) * 2,), "packed", tokens, torch.arange(tokens))
        with packed_attention(model), Living() as living, pytest.MonkeyPatch.context() as patch:
            patch.setattr("harness.models.attention.choose_kernel", choose_kernel_of_a_gpu)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.train.precision == "bf16"):
                result = hidden_states(model, batch)
            assert result.grad_fn is not None
            gc.collect()
            return sum(size for size, shape in living.found.values() if tuple(shape) not in weights)


def choose_kernel_of_a_gpu(device, dtype, dropout=0.0):
    del device, dropout
    return "torch_varlen" if dtype in (torch.bfloat16, torch.float16) else "per_document"


def test_a_gpus_products_are_rated_in_their_own_precision(compose, monkeypatch):
    """float32 on an H100 without TF32: 40% of 67 TFLOP/s, not of bf16's 989."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    rates = {kind: rate(compose(f"train.precision={kind}"))[0] for kind in ("fp32", "bf16")}
    assert rates["bf16"] == pytest.approx(0.4 * 989e12)
    assert rates["fp32"] < 0.4 * 500e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    if "tf32" not in compose().train.model_dump():
        assert rate(compose("train.precision=fp32"))[0] == pytest.approx(0.4 * 67e12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L40S")
    assert rate(compose("train.precision=bf16"))[0] == pytest.approx(0.4 * 362e12)


def test_the_table_of_memory_in_the_docs_is_explains(compose):
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8").split("## Resources for the papers' recipes")[1]
    rows = re.findall(
        r"\| LLaMA-2-(\d+B) \| (\d+)(.*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) GiB.*? \| (\d+) GiB", text
    )
    assert len(rows) == 5
    for name, devices, offload, *figures in rows:
        options = ["noise=symnoise", "model.gradient_checkpointing=true", "train.micro_batch_tokens=4096"]
        recipe = "train=fsdp_8gpu" if devices == "8" else "train=fsdp_2node"
        where = f"train.cpu_offload={str('cpu_offload' in offload).lower()}"
        config = compose(recipe, f"model=llama2_{name.lower()}", *options, where, "dataset.max_length=2048")
        bare = meta_model(config.model)
        size = size_of(bare, bare)
        parts = memory(config, size, int(devices))
        sharded, gathered, rest = (
            sum(parts.get(each, 0) for each in names)
            for names in (
                ("weights", "gradients", "optimiser"),
                ("gathered", "16-bit copies"),
                ("activations", "logits"),
            )
        )
        expected = [sharded, gathered, rest, sum(parts.values()), loading(config, size, 8)]
        exact = [float(each) for each in figures]
        assert exact == pytest.approx([each / 2**30 for each in expected], abs=0.51), (name, devices)
        assert exact[:3] == pytest.approx([each / 2**30 for each in expected[:3]], abs=0.051), (name, devices)


def test_loading_checkpoints_and_answers_by_hand(compose):
    config = compose("train=fsdp_8gpu", "model=llama2_7b", "dataset=alpaca")
    bare = meta_model(config.model)
    size = size_of(bare, bare)
    count = 6_738_415_616
    sample = 4 * (2 * 32000 * 4096 + 4096 + 202_383_360)  # embedding, head, last norm and a layer in float32
    assert loading(config, size, 8) == 8 * sample
    lora = compose("train=fsdp_8gpu", "train.method=lora", "model=llama2_7b", "dataset=alpaca")
    adapted = size_of(make_trainable(bare, lora.train), bare)
    adapters = adapted.trainable
    assert loading(lora, adapted, 8) == pytest.approx(8 * (sample + 4 * (adapters + adapters / 32)))  # and a layer's
    random = compose("train=fsdp_8gpu", "model=tiny")
    assert loading(random, size, 8) == 4 * count  # one process after the other
    assert loading(compose("train=neftune_paper", "train.devices=8", "model=llama2_7b"), size, 8) == 32 * count
    assert checkpoint(config, size) == 12 * count
    offloaded = compose("train=fsdp_2node", "train.cpu_offload=true", "model=llama2_7b")
    assert loading(offloaded, size, 8) == 8 * sample + 16 * count / 2
    # 805 answers, 32 at a time: 26 rounds of 100 tokens, each reading 27 GB of weights and 32 rows of 50 tokens' keys.
    device = GPUS["A100"]
    step = 4 * count + 32 * 1_048_576 * 50
    assert seconds_of_answers(device, 805, 100, 32, 4 * count, 1_048_576) == pytest.approx(2600 * step / 1e12)
    text = explain(config, "x")
    assert "checkpoints (estimate): 80.86 GB each" in text
    assert "main memory of a node (estimate): 14.87 GB while loading" in text
    assert "answers on one A100 (estimate): 13.48 GB of weights" in text  # in bfloat16, as answers are on a GPU


@pytest.mark.parametrize(("lr", "share"), [(5e-5, 0.57), (2.5e-5, 0.31), (5e-6, 0.08)])
def test_16_bit_weights_that_a_step_moves(lr, share):
    """By one step of AdamW on a hundred thousand weights N(0, 0.02)."""
    torch.manual_seed(0)
    before = (0.02 * torch.randn(100_000)).bfloat16()
    weights = torch.nn.Parameter(before.clone())
    weights.grad = torch.randn(100_000).bfloat16()
    torch.optim.AdamW([weights], lr, weight_decay=0.0).step()
    moved = float((weights.detach() != before).float().mean())
    assert moved == pytest.approx(share, abs=0.02)
    assert moved_share(lr, torch.bfloat16) == pytest.approx(moved, abs=0.02)


def test_16_bit_weights_are_warned_of(compose):
    pure = compose("model=llama2_7b", "model.dtype=bfloat16", "train=neftune_paper", "dataset=alpaca")
    assert "moves 57%, the rest round back" in explain(pure, "x")
    for fine in (["model.dtype=float32"], ["model.dtype=bfloat16", "train.method=lora"]):
        config = compose("model=llama2_7b", "train=neftune_paper", "dataset=alpaca", *fine)
        assert lost_updates(config.model, config.train) is None


def test_a_run_warns_of_16_bit_weights_before_it_starts_and_in_its_log(compose):
    """In an ordinary run, not in harness.explain alone."""
    config = compose(*SMALL, "model.dtype=bfloat16", "stages=[train]", "train.max_steps=1")
    job = job_of(config)
    warned = [line for line in prepare([job]) if line.startswith("warning: model.dtype=bfloat16")]
    assert len(warned) == 1
    execute(config)
    assert warned[0] in (job.folder / "log.txt").read_text()
    fine = compose(*SMALL, "stages=[train]", "train.max_steps=1")
    assert not [line for line in prepare([job_of(fine)]) if line.startswith("warning")]


def test_adapters_and_four_bits_need_less(compose):
    lora = parts_of(compose, "model=llama2_7b", "train=neftune_paper", "train.method=lora")
    qlora = parts_of(compose, "model=llama2_7b", "train=qlora_paper")
    # Rank 16 on q, k, v, o (4096 to 4096), gate, up and down (4096 and 11008), 32 layers, 4 bytes
    assert lora["gradients"] == 4 * 32 * 16 * (4 * 8192 + 3 * (4096 + 11008))
    assert qlora["weights"] < 0.25 * lora["weights"]


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
