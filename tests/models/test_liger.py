"""Liger's kernels: called as its release has them, by the real package's signatures; its values need a GPU.

Triton's interpreter (3.6 and 3.9) cannot run the kernel of the norm: `'float' object has no attribute 'to'`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.commands import ROOT, SMALL, environment
from support.tiny_models import random_documents, tiny_model
from torch.nn import functional

from harness.data.batching import micro_batches
from harness.models.attention import packed_attention
from harness.models.layers import liger
from harness.models.layers.liger import MODEL_TYPES, liger_kernels
from harness.pipeline.plan import RunFailed
from harness.pipeline.runner import execute
from harness.train.checks import check, check_training
from harness.train.loss import ResponseLoss

SIGNATURES = json.loads(Path(__file__).with_name("liger_signatures.json").read_text(encoding="utf-8"))


def recorded(name: str):
    """A function of the recorded signature that computes by torch."""
    parameters = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
                  if default is not None else inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                  for each, default in SIGNATURES[name].items()]  # fmt: skip
    signature = inspect.Signature(parameters)

    def call(*args, **options):
        given = signature.bind(*args, **options).arguments
        if name == "liger_swiglu":
            return functional.silu(given["a"]) * given["b"]
        wide = given["X"].float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + given["eps"])
        return given["W"] * normed.to(given["X"].dtype)

    return call


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    module = SimpleNamespace(**{name: recorded(name) for name in ("liger_rms_norm", "liger_swiglu")})
    monkeypatch.setattr(liger, "importlib", SimpleNamespace(import_module=lambda _: module))


def gradients(name: str, with_liger: bool) -> tuple[torch.Tensor, int]:
    model = tiny_model(name)
    objective = ResponseLoss(model)
    (batch,) = micro_batches(random_documents(), layout="packed")
    changed = 0
    with packed_attention(model):
        if with_liger:
            with liger_kernels(model) as changed:
                objective(batch)[0].backward()
        else:
            objective(batch)[0].backward()
    return torch.cat([each.grad.flatten() for each in model.parameters()]), changed


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
@pytest.mark.usefixtures("stand_in")
def test_each_norm_and_feed_forward_layer_is_called_as_liger_has_it(name):
    plain, _ = gradients(name, False)
    ours, changed = gradients(name, True)
    assert changed == 2 * 3 + 1  # two norms and one MLP a layer, and the last norm
    assert (ours - plain).norm() <= 1e-6 * plain.norm()  # float32, the same sums
    model = tiny_model(name)
    with liger_kernels(model):
        pass
    assert not any("forward" in vars(module) for module in model.modules())


def run_with_liger(tmp_path: Path, what: str, **variables: str) -> dict[str, Any]:
    """What this file prints as a program: Triton reads its variable when it is imported, so in a process of its own."""
    if not all(importlib.util.find_spec(each) for each in ("liger_kernel", "triton")):
        pytest.skip("needs liger-kernel and triton: pip install 'noise-harness[liger]'")
    command = [sys.executable, str(Path(__file__)), what, str(tmp_path / "found.json")]
    given = {**os.environ, **environment(ROOT / "tests", **variables)}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    return found


@pytest.mark.slow
def test_the_real_kernels_have_the_recorded_signatures(tmp_path):
    found = run_with_liger(tmp_path, "signatures", TRITON_INTERPRET="1")
    for name, parameters in SIGNATURES.items():
        if name != "version":
            assert list(parameters) == found[name][: len(parameters)]


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: Triton's interpreter cannot run the norm")
def test_the_real_kernels_train_as_torch(tmp_path):
    found = run_with_liger(tmp_path, "values")
    assert set(found["differences"]) == {"llama", "qwen2"}
    assert max(found["differences"].values()) < 1e-5  # float32, sums in another order
    assert found["changed"] == {"llama": 7, "qwen2": 7}


def test_without_a_gpu_or_for_another_model_it_is_refused(compose, monkeypatch):
    monkeypatch.setattr("harness.system.packages.is_installed", lambda _: False)
    with pytest.raises(ValueError, match=r"train\.liger=true: the package liger"):
        check(compose(*SMALL, "train.liger=true"))
    monkeypatch.setattr("harness.system.packages.is_installed", lambda _: True)
    other = compose("model=pythia_1_4b", "train.liger=true")
    with pytest.raises(ValueError, match=r"train.liger=true: knows llama, .*, not model_type=gpt_neox"):
        check_training(other.model, other.train)
    check(compose(*SMALL, "train.liger=true"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RunFailed, match=r"train\.liger=true: its kernels need a GPU"):
        execute(compose(*SMALL, "train.liger=true", "stages=[train]"))
    with pytest.raises(ValueError, match="liger=true has no effect beside compile=true"):
        compose(*SMALL, "train.liger=true", "train.compile=true", "train.row_multiple=2048")


def test_what_it_knows_has_the_norm_and_the_layer_that_it_computes():
    """Of transformers as installed: a variance_epsilon, weights times the normed, SiLU between gate and up."""
    for name in ("llama", "mistral", "qwen2"):
        assert name in MODEL_TYPES
        model = tiny_model(name)
        norms = [each for each in model.modules() if type(each).__name__.endswith("RMSNorm")]
        layers = [each for each in model.modules() if type(each).__name__.endswith("MLP")]
        assert norms
        assert layers
        x = torch.randn(3, norms[0].weight.numel())
        expected = recorded("liger_rms_norm")(x, norms[0].weight, norms[0].variance_epsilon)
        torch.testing.assert_close(norms[0](x), expected)
        gated = recorded("liger_swiglu")(layers[0].gate_proj(x), layers[0].up_proj(x))
        torch.testing.assert_close(layers[0](x), layers[0].down_proj(gated))


def real_signatures() -> dict[str, list[str]]:
    functions = importlib.import_module("liger_kernel.transformers.functional")
    names = [name for name in SIGNATURES if name != "version"]
    return {name: list(inspect.signature(getattr(functions, name)).parameters) for name in names}


def real_values() -> dict[str, Any]:
    torch.set_default_device("cuda")
    differences, changed = {}, {}
    for kind in ("llama", "qwen2"):
        plain, _ = gradients(kind, False)
        ours, changed[kind] = gradients(kind, True)
        differences[kind] = float((ours - plain).norm() / plain.norm())
    return {"differences": differences, "changed": changed}


if __name__ == "__main__":
    found = real_signatures() if sys.argv[1] == "signatures" else real_values()
    Path(sys.argv[2]).write_text(json.dumps(found))
