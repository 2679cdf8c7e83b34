"""The commands of the harness as a user runs them, on a model of seconds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.forked import run_module

ROOT = Path(__file__).parents[2]
SMALL = [
    "model=tiny",
    "model.architecture.hidden_size=32",
    "model.architecture.layers=1",
    "model.architecture.heads=2",
    "model.architecture.intermediate_size=64",
    "dataset.size=48",
    "dataset.heldout=8",
    "eval_set.heldout=6",
    "eval_set.unseen=2",
    "generate.max_new_tokens=4",
    "train.batch_size=8",
    "train.max_steps=6",
    "train.log_every=1",
    "train.checkpoint_every=2",
]


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """The variables of a command: `variables`, one thread, this checkout and `folders` before the rest of the path."""
    path = os.pathsep.join([*map(str, (ROOT, *folders)), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}


def harness(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m harness` to its end as somebody whose home folder is `cwd`."""
    return run_module("harness", *arguments, cwd=cwd, env=environment(PATH="/usr/bin:/bin", HOME=str(cwd)))


JUDGE = """
from pathlib import Path
from harness.judge.base import Identity, NoBudget, Verdict
class Judge(NoBudget):
    identity, orders, free = Identity("late"), (False,), True
    def __init__(self, config):
        pass
    def verdicts(self, comparisons):
        try:
            Path(__file__).with_name("was_down").open("x").close()
        except FileExistsError:
            yield [(position, Verdict(1.5)) for position in range(len(comparisons))]
        else:
            raise ValueError("the service is down")
"""


def judge_down_at_first(folder: Path) -> list[str]:
    """Overrides: a judge whose service is down for the first run that asks it, in a module of `folder`."""
    (folder / "late_judge.py").write_text(JUDGE, encoding="utf-8")
    return ["judge.kind=python", "judge.target=late_judge:Judge"]


def sweep(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep of small runs to its end, one at a time unless told; modules in `cwd` can be imported by it."""
    workers = [] if any(each.startswith("harness.workers=") for each in arguments) else ["harness.workers=1"]
    return run_module("harness", "-m", *SMALL, *workers, *arguments, cwd=cwd, env=environment(cwd))
