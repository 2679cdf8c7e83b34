"""Two whole runs of a model of some thousand weights, from which the cases are made."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import ROOT

SMALL = (
    *("model=tiny", "model.architecture.hidden_size=32", "model.architecture.layers=1", "model.architecture.heads=2"),
    *("model.architecture.intermediate_size=64", "dataset.size=16", "dataset.heldout=4", "eval_set.heldout=4"),
    *("eval_set.unseen=2", "generate.max_new_tokens=2", "train.batch_size=8", "train.max_steps=2", "train.log_every=1"),
    *("probe.examples=2", "probe.overfitting_examples=2", "probe.memorisation_examples=2", "tracking=disabled"),
)


@dataclass(frozen=True)
class Workplace:
    """A folder with runs/: `run` without noise, `other` with NEFTune's; `settings` are those of `run`."""

    root: Path
    run: Path
    other: Path
    settings: tuple[str, ...]


def prepare(root: Path) -> Workplace:
    """Train, ask, judge and probe both, by the command itself."""
    command = [sys.executable, "-m", "harness", "-m", *SMALL, "noise=none,neftune", "output_dir=runs"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": path}, check=True, stderr=subprocess.DEVNULL)
    (run,) = (root / "runs").glob("tiny-*-none-*")
    (other,) = (root / "runs").glob("tiny-*-neftune-*")
    return Workplace(root, run, other, (*SMALL, "noise=none"))
