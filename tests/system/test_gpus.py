"""Whether there is a GPU is asked without starting CUDA, so that a reservation made afterwards still counts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from support.commands import ROOT

from harness.train.optimizer import check_optimizer

SWITCH = "PYTORCH_NVML_BASED_CUDA_CHECK"


@pytest.fixture
def driver(monkeypatch):
    """Two GPUs of which NVML knows; -> what has started CUDA."""
    started: list[str] = []
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: 2)
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: started.append("cuInit") or 2, raising=False)
    return started


def test_the_command_has_torch_ask_nvml():
    code = (
        "import os, sys; sys.argv = ['harness', '--version']\n"
        "from harness.cli import main\nmain()\n"
        f"print(os.environ['{SWITCH}'])"
    )
    given = {name: value for name, value in os.environ.items() if name != SWITCH} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"


def test_torch_then_asks_without_starting_cuda(driver, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    assert torch.cuda.is_available()
    assert driver == ["cuInit"]  # what the switch prevents
    driver.clear()
    monkeypatch.setenv(SWITCH, "1")
    assert torch.cuda.is_available()
    assert driver == []


@pytest.mark.parametrize("override", ["train.optimizer=SGD", "train.optimizer_options={betas:[0.9,0.95]}"])
def test_the_check_of_an_optimiser_does_not_start_it(driver, monkeypatch, compose, override):
    """It takes a step, and torch's optimisers ask whether there is a GPU."""
    monkeypatch.setenv(SWITCH, "1")
    settings = compose(override).train
    if torch.version.cuda is None:  # a build for CUDA would go on to ask its driver
        check_optimizer(settings)
    assert driver == []
