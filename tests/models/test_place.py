"""Where models compute, with a GPU that torch only reports; and what a finished run leaves in memory."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from support.commands import SMALL
from support.runs import folder_of
from support.tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from harness.context import Job, Run
from harness.judge.judges import local_model
from harness.models import place as places
from harness.models.place import cast, computing_device, place
from harness.pipeline.plan import RunFailed
from harness.pipeline.runner import execute
from harness.record.tracking import Tracker


@pytest.fixture
def gpu(monkeypatch):
    """torch says that there is a GPU; moves to it are written down and not made. -> the devices moved to."""
    moves: list[str] = []
    to = torch.nn.Module.to

    def move(self, *args, **options):
        if args and isinstance(args[0], torch.device) and args[0].type == "cuda":
            moves.append(str(args[0]))
            return self
        return to(self, *args, **options)

    monkeypatch.setattr(torch.nn.Module, "to", move)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return moves


@pytest.mark.parametrize("devices", ["1", "2", "auto"])
def test_a_model_that_is_read_back_goes_to_the_gpu_whatever_the_trainings_devices(compose, request, devices):
    config = compose(*SMALL, "stages=[train]", "train.max_steps=1")
    execute(config)
    folder = folder_of(config)
    moves = request.getfixturevalue("gpu")
    again = compose(*SMALL, "train.max_steps=1", f"train.devices={devices}")
    job = Job(again, folder.path.name, folder, {})
    Run(job, Tracker(again, job.run_id, folder)).trained_model()
    assert moves == ["cuda:0"]


def test_a_rank_has_the_gpu_of_its_number(gpu, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    place(tiny_model("llama"))
    assert gpu == ["cuda:3"]


def test_a_judges_model_is_placed_alike(gpu, monkeypatch, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    monkeypatch.setattr(local_model, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(local_model, "source", lambda _: str(tmp_path))

    class Judge:
        model, revision, kind = "x", None, "local_lm"

    _, model = local_model.load(AutoModelForCausalLM, Judge)
    assert gpu == ["cuda:0"]
    assert not model.training
    assert local_model.whereabouts(Judge) == "on cuda:0"


def test_every_parameter_and_buffer_moves(monkeypatch):
    monkeypatch.setattr(places, "computing_device", lambda: torch.device("meta"))
    moved = place(tiny_model("llama"))
    assert {tensor.device.type for tensor in (*moved.parameters(), *moved.buffers())} == {"meta"}
    assert place(moved) is moved


def test_half_a_model_elsewhere_is_moved_too(gpu):
    model = tiny_model("llama")
    model.lm_head.to_empty(device="meta")
    place(model)
    assert gpu == ["cuda:0"]


def test_what_is_quantised_or_cut_stays_where_it_was_put(gpu):
    for name, value in (("is_quantized", True), ("hf_device_map", {"": 0})):
        model = tiny_model("llama")
        setattr(model, name, value)
        place(model)
    assert gpu == []


def test_without_a_gpu_it_is_the_cpu():
    assert computing_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert places.describe(torch.device("cpu")).startswith("on the CPU (")


def test_casting_leaves_rotary_frequencies_alone():
    model = tiny_model("llama")
    before = model.model.rotary_emb.inv_freq.clone()
    cast(model, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model.model.rotary_emb.inv_freq, before)


def test_a_model_built_in_16_bits_keeps_its_frequencies(compose):
    from harness.models.load import load_model

    model = load_model(compose("model=tiny", "model.dtype=bfloat16").model, seed=0)
    assert model.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_every_stage_logs_where_it_computes(compose):
    config = compose(*SMALL)
    execute(config)
    log = (folder_of(config) / "log.txt").read_text()
    threads = torch.get_num_threads()
    assert f"train: on the CPU ({threads} threads), 1 processes" in log
    for stage in ("generate", "probe"):
        assert f"{stage}: on the CPU ({threads} threads), float32" in log
    assert "judge: reference, no model in this process" in log


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_trained_model_is_gone_after_its_run_without_a_garbage_collection(compose, monkeypatch, precision, fails):
    from harness.train import stage

    seen, load = [], stage.load_model

    def watched(*args, **options):
        model = load(*args, **options)
        seen.append(weakref.ref(model))
        return model

    def broken(*_args, **_options):
        raise ValueError("broken on purpose")

    monkeypatch.setattr(stage, "load_model", watched)
    config = compose(*SMALL, "train.max_steps=2", f"train.precision={precision}", "stages=[train,generate,probe]")
    if fails:
        monkeypatch.setattr(stage, "mean_loss", broken)
    gc.collect()
    gc.disable()
    try:
        if fails:
            with pytest.raises(RunFailed, match="broken on purpose"):
                execute(config)
        else:
            execute(config)
        assert seen
        assert seen[-1]() is None
    finally:
        gc.enable()
