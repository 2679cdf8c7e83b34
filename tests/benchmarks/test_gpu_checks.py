"""`python -m benchmarks.gpu --cpu`: every check runs on a bare machine, and one that fails stops no other."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.commands import ROOT, environment

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.setting import Finding

# What a bare machine does not have.
MISSING = ("pydantic", "hydra", "omegaconf", "wandb", "datasets", "trl", "peft", "pandas")
BARE = """
import runpy, sys
for name in {missing}:
    sys.modules[name] = None
sys.argv[1:] = {arguments}
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_every_check_runs_on_a_bare_machine_at_toy_size(tmp_path):
    code = BARE.format(missing=MISSING, arguments=["--cpu", "--out", str(tmp_path / "found.txt")])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "found.txt").read_text()
    assert text.strip().endswith(f"{len(gpu.CHECKS)} checks, 0 findings wrong or failed")
    sections = {section.split("\n", 1)[0]: section for section in text.split("\n## ")[1:]}
    assert list(sections) == [check.__name__ for check in gpu.CHECKS]
    assert all(len(section.splitlines()) >= 3 for section in sections.values()), text


def failing(setting):
    del setting
    yield Finding("a figure", "1 ms")
    raise RuntimeError("no kernel image\nis available")


def wrong(setting):
    del setting
    yield Finding("a number", "2.0e-1", good=False)


def fine(setting):
    del setting
    yield Finding("another", "1.0e-9", good=True)


def test_a_failing_check_stops_no_other(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "CHECKS", [failing, wrong, fine])
    monkeypatch.setattr(sys, "argv", ["gpu", "--cpu"])
    assert gpu.main() == 1
    printed = capsys.readouterr().out
    assert "a figure: 1 ms" in printed
    assert "FAILED RuntimeError: no kernel image is available" in printed
    assert "a number: WRONG  2.0e-1" in printed
    assert "another: ok     1.0e-9" in printed
    assert printed.endswith("3 checks, 2 findings wrong or failed\n")


def test_without_a_gpu_it_says_how_to_try_it(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "torch sees no GPU here; --cpu runs the checks at toy size" in capsys.readouterr().err
