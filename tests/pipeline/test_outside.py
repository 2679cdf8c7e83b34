"""A package outside of the repository adds a distribution, a method, a data set and a table; nothing is edited."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from support.commands import SMALL, environment
from support.forked import run_module

from harness.noise import Noise, noise_generators, perturb
from harness.noise.distributions import own_distribution

CODE = '''
import math
from analysis.tables.layout import TableLayout

def laplace(shape, width, generator, dtype):
    """Two-sided exponential entries of scale `width`."""
    import torch
    uniform = torch.empty(shape, dtype=dtype, device=generator.device).uniform_(-0.5, 0.5, generator=generator)
    return -width * uniform.sign() * (1 - 2 * uniform.abs()).clamp(min=1e-30).log()

laplace.standard_deviation = math.sqrt(2)

def unfinished(shape, width, generator, dtype):
    raise AssertionError

table = TableLayout("held_out", "Held-out loss alone", metrics=("eval/loss",), differences=())
'''
METHOD = '''
from harness.train.methods import Method
from harness.train.methods.base import report

class Halved(Method):
    """The plain loss, times `self.settings.factor`."""
    def backward(self, micro):
        loss, _ = self.objective(micro.batch)
        loss = loss * self.settings.factor
        self._backward(loss, micro)
        return report(micro, loss)
'''


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with two modules, an installed entry point, and a folder of YAML files."""
    (tmp_path / "theirs.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "their_method.py").write_text(METHOD, encoding="utf-8")
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[noise_harness.tables]\nheld_out = theirs:table\n", encoding="utf-8")
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}!"} for i in range(60)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    files = {
        "noise/laplace.yaml": "name: laplace\ndistribution: theirs:laplace\nscale: matched\npair: antithetic\n",
        "noise/halved.yaml": "name: halved\ndistribution: none\nmethod: own\n"
        "own: {target: 'their_method:Halved', settings: {factor: 0.5}, forwards: 1, backwards: 1}\n",
        "dataset/counting.yaml": f"name: counting\npath: {tmp_path / 'rows.json'}\n",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def run(outside: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return run_module(*command, cwd=outside, env=environment(outside))


def test_distribution_method_data_set_and_table_from_outside(outside: Path) -> None:
    given = [
        *SMALL,
        "harness.workers=1",
        "dataset=counting",
        "train.max_steps=2",
        "stages=[train]",
        "tracking=disabled",
    ]
    done = run(outside, "harness", "--config-dir", "conf", "-m", *given, "noise=laplace,halved,none")
    assert done.returncode == 0, done.stderr
    table = run(outside, "analysis", "table", "held_out")
    assert table.returncode == 0, table.stderr
    assert table.stdout.startswith("Held-out loss alone (")
    assert all(name in table.stdout for name in ("laplace", "halved", "none"))
    losses = {}
    for summary in (outside / "runs").glob("*/metrics.jsonl"):
        first = json.loads(summary.read_text().splitlines()[0])
        losses[summary.parent.name.split("-")[2]] = first["train/loss"]
    assert losses["halved"] == pytest.approx(losses["none"] / 2)


def test_a_changed_module_is_another_run(outside: Path) -> None:
    given = ["--config-dir", "conf", *SMALL, "noise=laplace", "harness.dry_run=true"]
    before = run(outside, "harness", *given)
    (outside / "theirs.py").write_text(CODE + "\n# another version\n", encoding="utf-8")
    after = run(outside, "harness", *given)
    assert (before.returncode, after.returncode) == (0, 0), after.stderr
    planned = [done.stderr.splitlines()[1].split()[0] for done in (before, after)]
    assert planned[0].rpartition("-")[0] == planned[1].rpartition("-")[0] == "tiny-builtin-laplace-a5-s0"
    assert planned[0] != planned[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "noise.distribution=gone:laplace",
            "distribution=gone:laplace: No module named 'gone'; the module must be on PYTHONPATH",
        ),
        ("noise.distribution=theirs:gone", "distribution=theirs:gone: module 'theirs' has no attribute 'gone'"),
        ("noise.distribution=theirs:unfinished", "standard_deviation"),
        (
            "noise.distribution=laplace",
            "rademacher, dropout, none, or give your own as MODULE:FUNCTION",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(outside: Path, override: str, message: str) -> None:
    done = run(outside, "harness", *SMALL, override)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not (outside / "runs").exists()


def test_a_distribution_of_ones_own_is_keyed_paired_and_matched(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(outside))
    own_distribution.cache_clear()
    noise = Noise("theirs:laplace", 5.0, "matched", pair="antithetic")
    zero, mask = torch.zeros(8, 64, 32, dtype=torch.float64), torch.ones(8, 64)
    pair = perturb(zero, mask, noise, noise_generators(0, 0, range(8)))
    again = perturb(zero, mask, noise, noise_generators(0, 0, range(8)))
    assert torch.equal(pair, again)
    assert torch.equal(pair[:8], -pair[8:])
    # variance 1/3 alpha^2 / (L d) of each entry; the fourth moment of Laplace noise is 6 variance^2
    unit = pair[:8] / 5 * (64 * 32) ** 0.5
    spread = 1 / 3 * (5 / unit.numel()) ** 0.5
    assert abs(float(unit.square().mean()) - 1 / 3) < 4 * spread
