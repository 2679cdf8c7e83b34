"""A study's plan, committed before its runs: question, primary measures, margins, seeds, stopping rule.

    python -m experiments.plan experiments/FOLDER            # what it says, whether it is committed, and its power

plan.yaml beside a study's study.yaml:

    question: what is asked
    baseline: none                  # the noise that the others are compared with
    compared: [symnoise]            # the noises that are; all where it is left out
    primary:                        # at most three measures, each with the largest difference that does not matter
      judge/accuracy: 2 points
    exploratory: [judge/win_rate]   # shown without a verdict
    seeds: 6                        # by simulation: `power`
    stopping: when it ends, whatever is seen
    power:                          # what the simulation assumes
      comparisons: 25               # of each primary measure
      scatter:                      # of a difference: deviation between seeds, and for measures with a number for
        judge/accuracy: {seed: 0.4, item: 0.9, rest: 2.8, units: 34, control: 28}   # each item, items' and the rest's
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.study.verdicts import MARGINS, Margin
from analysis.tables.computed.planned import Planned
from harness.metrics.names import current, with_current_names

FILE = "plan.yaml"
MOST_PRIMARY = 3
_KEYS = {"question", "baseline", "compared", "primary", "exploratory", "seeds", "stopping", "power", "budget", "notes"}
_NEEDED = ("question", "primary", "seeds", "stopping", "power")


@dataclass(frozen=True)
class Scatter:
    """Deviations of a paired difference, in the measure's unit.

    Attributes:
        seed: between seeds.
        item: between the means of items (families of instructions) over all seeds.
        rest: of one item in one seed.
        units: items; 0: the measure has one number a run.
        control: mean of the baseline, for a margin in percent.
    """

    seed: float
    control: float
    item: float = 0.0
    rest: float = 0.0
    units: int = 0


@dataclass(frozen=True)
class Plan:
    """The content of a plan.yaml."""

    question: str
    verdicts: Planned
    seeds: int
    stopping: str
    comparisons: int
    scatter: Mapping[str, Scatter] = field(default_factory=dict)


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Raises:
        ValueError: the file is missing, a key is unknown or missing, there are more than three primary measures, or a
            margin differs from the one that is fixed for its measure.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no plan")
    raw = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: no keys and values")
    for key in raw:
        if key not in _KEYS:
            raise ValueError(f"{path}: {key}: unknown; choose from {', '.join(sorted(_KEYS))}")
    for key in _NEEDED:
        if not raw.get(key):
            raise ValueError(f"{path}: {key}: is missing")
    raw = _with_current_names(raw)
    if not isinstance(raw["seeds"], int) or raw["seeds"] < 1:
        raise ValueError(f"{path}: seeds={raw['seeds']!r}: a number above 0")
    power = raw["power"]
    verdicts = Planned(
        _primary(raw["primary"], path),
        str(raw.get("baseline", "none")),
        tuple(map(str, raw.get("compared", ()))),
        tuple(map(str, raw.get("exploratory", ()))),
    )
    scatter = {name: Scatter(**each) for name, each in power["scatter"].items()}
    for name in verdicts.primary:
        if name not in scatter:
            raise ValueError(f"{path}: power.scatter: {name} is missing, and it is primary")
    return Plan(raw["question"], verdicts, raw["seeds"], raw["stopping"], int(power["comparisons"]), scatter)


def _with_current_names(raw: dict[str, Any]) -> dict[str, Any]:
    """A plan as it is read today: its file stays as it was committed, whatever its metrics are called since."""
    primary, power = raw["primary"], raw["power"]
    return {
        **raw,
        "primary": with_current_names(primary) if isinstance(primary, dict) else primary,
        "exploratory": [current(str(name)) for name in raw.get("exploratory", ())],
        "power": {**power, "scatter": with_current_names(power["scatter"])},
    }


def _primary(raw: Any, path: Path) -> dict[str, Margin]:
    if not isinstance(raw, dict) or not 1 <= len(raw) <= MOST_PRIMARY:
        raise ValueError(f"{path}: primary: one to {MOST_PRIMARY} measures, each with its margin")
    found = {}
    for name, words in raw.items():
        try:
            margin = Margin.read(words)
        except ValueError as error:
            raise ValueError(f"{path}: primary: {name}: {error}") from None
        if MARGINS.get(name, margin) != margin:
            raise ValueError(f"{path}: primary: {name}: margin {margin}, but {MARGINS[name]} is fixed for it")
        found[str(name)] = margin
    return found


def committed_at(path: Path) -> str:
    """The commit with the current version of the plan.

    Raises:
        ValueError: git does not know the file, or it was changed since.
    """
    found = _git(path.parent, "log", "-1", "--format=%H", "--", path.name)
    if not found:
        raise ValueError(f"{path}: the plan is not committed; commit it before the runs")
    if _git(path.parent, "status", "--porcelain", "--", path.name):
        raise ValueError(f"{path}: the plan was changed and not committed; commit it before the runs")
    return found


def check_precedes(path: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that every run was made by code whose history contains the current plan.

    Args:
        path: the plan.
        runs: provenance of each run, by its name.

    Raises:
        ValueError: the plan is not committed, or a run is older, or of a commit that is not in this repository.
    """
    plan = committed_at(path)
    for name, provenance in runs.items():
        commit = provenance.get("git", {}).get("commit")
        if not commit:
            raise ValueError(f"{name}: its provenance names no commit, so {path} may be younger")
        done = _run(path.parent, "merge-base", "--is-ancestor", plan, commit)
        if done.returncode == 1:
            raise ValueError(f"{name}: of commit {commit[:10]}, which does not have {path} as of {plan[:10]}")
        if done.returncode:
            raise ValueError(f"{name}: of commit {commit[:10]}, which this repository does not have")


def _git(folder: Path, *arguments: str) -> str:
    return _run(folder, *arguments).stdout.strip()


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)


def main() -> int:
    """Print the content of plans, and the probability that they decide."""
    from experiments.power import decided

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--studies", type=int, default=200, help="simulated, for each number of seeds")
    arguments = parser.parse_args()
    try:
        for folder in arguments.folders:
            plan = read_plan(folder / FILE)
            print(f"{folder}: {plan.question}\n{decided(plan, arguments.studies)}")
            print(f"committed in {committed_at(folder / FILE)[:10]}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
