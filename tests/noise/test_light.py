"""The base installation is torch and numpy: the noise and the pure metrics work with them alone."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from support.commands import ROOT, environment

# Stands in the way of every package but torch, numpy and what these two import themselves.
BLOCKED = """
import importlib.metadata as metadata, re, sys
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
wanted, allowed = ["torch", "numpy"], set()
while wanted:
    name = wanted.pop()
    if name in allowed:
        continue
    allowed.add(name)
    try:
        needs = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        continue
    wanted += [plain(re.split("[^A-Za-z0-9._-]", need)[0]) for need in needs if "extra ==" not in need]
packages = {top for top, names in metadata.packages_distributions().items()
            if not any(plain(name) in allowed for name in names)} - {"harness", "analysis"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
sys.path_importer_cache.clear()
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in packages else found(name, package)
"""


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


def test_the_noise_and_the_pure_metrics_need_torch_and_numpy_alone(tmp_path: Path) -> None:
    code = """
import torch, harness.noise, harness.metrics
from harness.noise import PRESETS, EmbeddingNoise, Noise, perturb
noise = Noise(**PRESETS["symnoise"], alpha=5.0)
pair = perturb(torch.zeros(1, 4, 8), torch.ones(1, 4), noise, torch.Generator().manual_seed(0))
assert torch.equal(pair[0], -pair[1]) and abs(float(pair[0].norm()) - 5) < 1e-5
assert harness.metrics.win_rate([1.0, 2.0])["win_rate"] == 50.0
assert harness.metrics.log_diversity("one two three four five six", 6) == 20.0
assert not {"transformers", "pydantic", "torch._dynamo"} & set(sys.modules)
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_command_says_what_to_install(tmp_path: Path) -> None:
    for module, lines in (("harness", 1), ("analysis", 1)):
        done = run(f"import runpy; sys.argv = ['x']; runpy.run_module('{module}', run_name='__main__')", tmp_path)
        assert done.returncode != 0
        assert len(done.stderr.splitlines()) == lines, done.stderr
        assert "pip install 'noise-harness[run]'" in done.stderr


def test_every_extra_of_the_harness_brings_the_harness() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [each.split(">")[0] for each in project["dependencies"]] == ["numpy", "torch"]
    extras = project["optional-dependencies"]
    for name in set(extras) - {"run", "docs", "all"}:
        assert "noise-harness[run]" in extras[name], name
    for name in set(extras) - {"run", "docs", "all", "dev", "qlora", "vllm", "bench", "mlflow", "trackio", "liger"}:
        assert name in extras["all"][0]
