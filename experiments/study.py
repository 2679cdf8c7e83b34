"""Run a study of the lab book and write what it showed: `python -m experiments.study experiments/<folder>`.

The folder's study.yaml says all: `sweeps` (lists of overrides, as on the command line), `tables` (names, or
{name: custom, rows: ..., metrics: ...}) and `figures` (names). Runs of all studies share one output folder (`--runs`),
so what two studies have in common runs once, and finished runs are skipped. Afterwards the folder holds the tables,
figures, runs.csv, samples.md and machine.json, read from the run folders.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from experiments.collect import collect


def main() -> None:
    """Parse the command line, run, collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders with a study.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs/book"), help="output folder of all studies")
    parser.add_argument("--collect-only", action="store_true", help="run nothing; read what is there")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        study = yaml.safe_load((folder / "study.yaml").read_text("utf-8"))
        if not arguments.collect_only:
            for sweep in study["sweeps"]:
                # A run that fails or diverges is a result: the tables list it, and the other sweeps go on.
                subprocess.run(_command(sweep, arguments.runs), check=False)
        with selection(arguments.runs, planned(study["sweeps"])) as runs:
            collect(runs, folder, study["tables"], study.get("samples", 4), study.get("figures", ()))


def _command(sweep: list[str], runs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "harness", "-m", *sweep, f"output_dir={runs}", "tracking=disabled", *more]


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
