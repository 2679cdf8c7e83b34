"""Run a study of the lab book and write its results: `python -m experiments.study experiments/<folder>`.

The folder's study.yaml has everything: `sweeps` (lists of overrides, as on the command line; $NAMES are taken from the
environment), `common` (overrides of every sweep), `tables` (names, or {name: custom, rows: ..., metrics: ...}) and
`figures` (names). Runs of all studies share one output folder (`--runs`), so what two studies share is run once, and
finished runs are skipped. Afterwards the folder contains the tables, figures, runs.csv, samples.md and machine.json,
read from the run folders.

A folder with a plan.yaml (`experiments.plan`) has verdicts.md, too: of the plan's primary measures and no others, and
only if the plan was committed before the runs. Without a plan there is no verdict.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from analysis.render.formats import render
from analysis.sources.runs import load_runs
from analysis.study.metrics import name_of
from analysis.tables.computed.planned import planned_verdicts
from analysis.tables.layouts import LAYOUTS
from experiments.collect import collect
from experiments.plan import FILE, Plan, check_precedes, committed_at, read_plan
from experiments.recompute import write_numbers
from harness.record import read_json, write_text

# Tables with verdicts, whatever a plan says.
_WITH_VERDICTS = {"verdicts", "claims"}


def main() -> None:
    """Parse the command line, run, collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders with a study.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs/book"), help="output folder of all studies")
    parser.add_argument("--collect-only", action="store_true", help="run nothing; read what is there")
    parser.add_argument(
        "--minutes", type=float, help="start no further sweep after so long; as the plan's stopping rule"
    )
    arguments = parser.parse_args()
    try:
        for folder in arguments.folders:
            study(folder, arguments.runs, 0.0 if arguments.collect_only else arguments.minutes or float("inf"))
    except ValueError as error:
        parser.error(str(error))


def study(folder: Path, runs: Path, minutes: float = float("inf")) -> None:
    """Run a study's sweeps, as long as there are minutes left, and write what all its runs show.

    Raises:
        ValueError: a plan that is wrong, not committed, or younger than a run; a table's metric under the name that
            tables show; no finished run.
    """
    settings = yaml.safe_load((folder / "study.yaml").read_text("utf-8"))
    plan = read_plan(folder / FILE) if (folder / FILE).exists() else None
    if plan:
        committed_at(folder / FILE)  # before anything runs
        _refuse_tables_with_verdicts(settings["tables"], folder)
    _check_metrics(settings["tables"], folder)
    end = time.monotonic() + 60 * minutes
    sweeps = [[*sweep, *settings.get("common", ())] for sweep in settings["sweeps"]]
    for sweep in sweeps:
        if time.monotonic() >= end:
            break
        # A run that fails or diverges is a result: the tables list it, and the other sweeps continue.
        subprocess.run(_command(sweep, runs), check=False)
    with selection(runs, planned(sweeps)) as selected:
        if plan:
            write_verdicts(plan, folder, selected)
        collect(selected, folder, settings["tables"], settings.get("samples", 4), settings.get("figures", ()))


def write_verdicts(plan: Plan, folder: Path, runs: Path) -> None:
    """verdicts.md and verdicts.csv: of the primary measures verdicts, of the exploratory ones differences.

    Beside them by_run.csv and by_family.csv, from which `experiments.recompute` gets the verdicts another way.

    Raises:
        ValueError: as `check_precedes`, or a primary measure that no run has.
    """
    done = sorted(path for path in runs.iterdir() if (path / "done").exists())
    check_precedes(folder / FILE, {path.name: read_json(path / "provenance.json") for path in done})
    loaded = load_runs([str(runs)])
    tables = planned_verdicts(loaded, plan.verdicts)
    write_numbers(loaded, plan, folder)
    write_text(folder / "verdicts.md", render(tables, "markdown"))
    write_text(folder / "verdicts.csv", render(tables, "csv"))


def _refuse_tables_with_verdicts(tables: Sequence[Any], folder: Path) -> None:
    for each in tables:
        name = each if isinstance(each, str) else each["name"]
        if name in _WITH_VERDICTS or getattr(LAYOUTS.get(name), "verdicts", False):
            raise ValueError(f"{folder}: table {name} gives verdicts of measures that {FILE} does not name primary")


def _check_metrics(tables: Sequence[Any], folder: Path) -> None:
    """Before anything runs: which metrics there will be is not known, which are headers is."""
    for each in tables:
        for key in {"metrics", "differences"} & set(each if isinstance(each, dict) else ()):
            for name in each[key].split(","):
                if named := name_of(name.strip()):
                    raise ValueError(f"{folder}/study.yaml: tables: {key}: {name.strip()}: it is {named}")


def _command(sweep: list[str], runs: Path, *more: str) -> list[str]:
    words = [_filled(word) for word in sweep]
    return [sys.executable, "-m", "harness", "-m", *words, f"output_dir={runs}", "tracking=disabled", *more]


def _filled(word: str) -> str:
    """With the environment's values for $NAMES: where a study's data lie is no part of it."""
    filled = os.path.expandvars(word)
    if left := re.search(r"\$(\w+)", filled):
        raise ValueError(f"{word}: set {left[1]} in the environment")
    return filled


def planned(sweeps: list[list[str]]) -> list[str]:
    """Run ids of the sweeps, without running any."""
    found: dict[str, Any] = {}
    for sweep in sweeps:
        # With an empty output folder the plan lists every run, those that are done too.
        with tempfile.TemporaryDirectory() as empty:
            command = _command(sweep, Path(empty), "harness.dry_run=true")
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        found |= dict.fromkeys(line.split()[0] for line in lines if line.startswith("  "))
    return list(found)


@contextmanager
def selection(runs: Path, run_ids: list[str]) -> Iterator[Path]:
    """A folder that holds only these runs, as links."""
    with tempfile.TemporaryDirectory() as folder:
        for run_id in run_ids:
            if (runs / run_id).is_dir():
                (Path(folder) / run_id).symlink_to((runs / run_id).resolve())
        yield Path(folder)


if __name__ == "__main__":
    main()
