"""Answers over several processes and types: who answers what, and whole runs on gloo against one process."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from support.commands import SMALL
from support.runs import folder_of

from harness.generate import answers, ranks
from harness.generate.answers import answering_dtype
from harness.generate.ranks import processes, share, tensor_parallel
from harness.pipeline.runner import execute
from harness.pipeline.stages import gpus_of

GB = 10**9


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_every_prompt_is_answered_once_and_the_load_is_even(count):
    prompts = [[0] * length for length in (9, 3, 7, 7, 2, 8, 1, 4, 6, 5)]
    shares = [share(prompts, [len(each) for each in prompts], rank, count) for rank in range(count)]
    assert sorted(index for each in shares for index, _ in each) == list(range(10))
    assert all(prompts[index] is prompt for each in shares for index, prompt in each)
    loads = [sum(len(prompt) for _, prompt in each) for each in shares]
    assert max(loads) - min(loads) <= 9


@pytest.mark.parametrize(
    ("overrides", "gpus", "expected"),
    [
        ([], 8, 1),
        (["train.devices=8"], 8, 8),
        (["train.devices=8"], 2, 2),  # finished on a smaller machine
        (["train.devices=2"], 0, 2),  # on a CPU as it trained
        (["train.devices=8"], 0, 4),  # by the cores that it has
        (["generate.devices=3"], 8, 3),
        (["train.devices=8", "generate.devices=1"], 8, 1),
        (["generate.tensor_parallel=4"], 8, 4),
    ],
)
def test_as_many_processes_answer_as_trained_and_have_a_gpu(compose, monkeypatch, overrides, gpus, expected):
    monkeypatch.setattr(ranks, "cores", lambda: 4)
    assert processes(compose(*overrides), gpus) == expected


def test_more_gpus_than_there_are_is_an_error(compose):
    with pytest.raises(ValueError, match=r"generate\.devices=4: only 2 GPUs"):
        processes(compose("generate.devices=4"), 2)
    with pytest.raises(ValueError, match=r"generate\.tensor_parallel=4: only 2 GPUs"):
        processes(compose("generate.tensor_parallel=4"), 2)
    with pytest.raises(ValueError, match="does not divide devices=3"):
        compose("generate.tensor_parallel=2", "generate.devices=3")


@pytest.mark.parametrize(
    ("weights", "gpus", "overrides", "expected"),
    [
        (14 * GB, 8, [], 1),  # 7B in 16 bits
        (138 * GB, 8, [], 8),  # 70B: ours cuts over all
        (138 * GB, 8, ["generate.backend=vllm", "generate.python=python"], 4),
        (14 * GB, 8, ["generate.tensor_parallel=2"], 2),
    ],
)
def test_a_model_that_does_not_fit_one_gpu_is_cut(compose, weights, gpus, overrides, expected):
    assert tensor_parallel(compose(*overrides), weights, [80 * GB] * gpus, gpus) == expected


def test_a_model_that_fits_nowhere_is_named(compose):
    with pytest.raises(ValueError, match="138 GB of weights do not fit on 2 GPUs of 24 GB"):
        tensor_parallel(compose(), 138 * GB, [24 * GB] * 2, 2)


@pytest.mark.parametrize(
    ("overrides", "stages", "expected"),
    [
        (["train.devices=8"], ["train", "generate", "judge"], 8),
        (["train.devices=8"], ["generate"], 2),
        (["train.devices=8"], ["judge", "probe"], 1),
        (["train.devices=auto"], ["train"], None),
        (["train.devices=auto", "train.nodes=2"], ["probe", "record"], 1),
    ],
)
def test_stages_ask_for_the_gpus_that_they_need(compose, monkeypatch, overrides, stages, expected):
    """A run of eight is judged where CUDA_VISIBLE_DEVICES is 0 alone, and answered on the two that there are."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus_of(compose(*overrides), stages) == expected


def test_the_type_of_answers_is_bfloat16_where_a_gpu_has_it(compose, monkeypatch):
    assert answering_dtype(compose()) == "float32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert answering_dtype(compose()) == "bfloat16"
    assert answering_dtype(compose("generate.dtype=float32")) == "float32"
    monkeypatch.setattr(answers, "supports_bfloat16", lambda: False)  # a V100
    assert answering_dtype(compose()) == "float32"


ANSWERED = [*SMALL, "model.architecture.heads=4", "train.max_steps=3", "generate.max_new_tokens=12"]


def answered(compose, tmp_path, trained, name, *overrides):
    """The texts, summary and log of a copy of a trained run that these settings answer."""
    config = compose(*ANSWERED, f"output_dir={tmp_path / name}", "stages=[generate]", *overrides)
    shutil.copytree(folder_of(trained).path, folder_of(config).path)
    summary = execute(config)
    texts = [row["output"] for row in json.loads((folder_of(config) / "model_outputs.json").read_text())]
    return texts, summary, (folder_of(config) / "log.txt").read_text()


@pytest.fixture
def trained(compose, finished):
    config = compose(*ANSWERED, "stages=[train]")
    finished(config)
    return config


def test_processes_answer_as_one(compose, tmp_path, trained):
    alone, summary, _ = answered(compose, tmp_path, trained, "one")
    assert summary["generate_backend"] == "engine"
    assert summary["generate_dtype"] == "float32"
    assert summary["final"]["generate/bits"] == 32
    # Three have shares of different sizes; two are in the slow test below.
    texts, _, log = answered(compose, tmp_path, trained, "three", "generate.devices=3")
    assert texts == alone
    assert "a share of the answers on each of 3 processes" in log


def test_a_model_that_is_cut_over_processes_answers_as_whole(compose, tmp_path, trained):
    alone, _, _ = answered(compose, tmp_path, trained, "one", "generate.backend=transformers")
    texts, summary, log = answered(compose, tmp_path, trained, "cut", "generate.tensor_parallel=2")
    assert texts == alone
    assert "cut over 2 processes" in log
    assert summary["generate_backend"] == "transformers"


@pytest.mark.slow
def test_a_training_on_two_is_answered_probed_and_judged_as_one_on_one(compose, tmp_path):
    stages = "stages=[train,generate,judge,probe]"
    summaries = []
    for count in (1, 2):
        config = compose(*ANSWERED, stages, f"output_dir={tmp_path / str(count)}", f"train.devices={count}")
        summaries.append(execute(config))
        last = json.loads((folder_of(config) / "model_outputs.json").read_text())
        summaries[-1]["texts"] = [row["output"] for row in last]
    one, two = summaries
    assert two["texts"] == one["texts"]
    assert two["final"]["judge/win_rate"] == one["final"]["judge/win_rate"]
    for name in ("probe/weight_distance", "probe/heldout/loss", "eval/loss"):
        assert two["final"][name] == pytest.approx(one["final"][name], rel=1e-4)


def test_answers_in_16_bits_leave_the_probes_their_32(compose, tmp_path):
    common = [*ANSWERED, "stages=[train,generate,probe]"]
    wide, narrow = (
        execute(compose(*common, f"output_dir={tmp_path / dtype}", f"generate.dtype={dtype}"))
        for dtype in ("float32", "bfloat16")
    )
    assert narrow["generate_dtype"] == "bfloat16"
    assert narrow["final"]["generate/bits"] == 16
    probes = [key for key in wide["final"] if key.startswith("probe/") and "second" not in key]
    assert probes
    for key in probes:
        assert narrow["final"][key] == wide["final"][key], key


def test_only_the_first_process_writes(monkeypatch, trained):
    """A rank beside the first returns its result and leaves no file."""
    from harness.context import Job, Run
    from harness.generate import stage
    from harness.record.tracking import Tracker

    folder = folder_of(trained)
    monkeypatch.setattr(stage, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(answers, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(
        answers, "gather", lambda found: {**dict.fromkeys(range(8), next(iter(found.values()))), **found}
    )
    job = Job(trained, folder.path.name, folder, {})
    result = stage.run(Run(job, Tracker(trained, job.run_id, folder), show_progress=False))
    assert result.metrics == {}
    assert not (folder / "model_outputs.json").exists()
    assert ranks.gather({1: 2}) == {1: 2}
