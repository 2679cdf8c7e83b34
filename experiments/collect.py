"""Write the results of a finished sweep into its lab-book folder: tables, figures, runs.csv, curves, samples, machine.

    python -m experiments.collect RUNS FOLDER [--samples 6]

Everything is read from the run folders; nothing is typed in by hand.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.record import RunFolder, read_json, write_json, write_text

# Rows of a curve in curves.md.
_MOST_STEPS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the sweep's output folder")
    parser.add_argument("folder", type=Path, help="the experiment's folder")
    parser.add_argument("--samples", type=int, default=6, help="instructions to show with the runs' answers")
    arguments = parser.parse_args()
    try:
        collect(arguments.runs, arguments.folder, ["ablation"], arguments.samples)
    except ValueError as error:
        parser.error(str(error))


def collect(
    source: Path, folder: Path, tables: Sequence[str | dict[str, str]], answers: int, figures: Sequence[str] = ()
) -> None:
    """Write table.md (several tables: table-<number>.md), runs.csv, curves.md, samples.md, machine.json into `folder`.

    Curves and samples show one run of each setting, that with the lowest seed; tables and figures include all.

    Args:
        source: run folders.
        tables: names of `python -m analysis table`, or for the table custom its options by name.
        answers: how many instructions to show with the runs' answers.
        figures: names of `python -m analysis figures`, kept as PNG with their captions in captions.md.

    Raises:
        ValueError: no finished run.
    """
    runs = sorted(path for path in source.iterdir() if (path / "done").exists())
    if not runs:
        raise ValueError(f"{source}: no finished runs")
    for number, table in enumerate(tables):
        options = {"name": table} if isinstance(table, str) else dict(table)
        name, title = options.pop("name"), options.pop("file", f"table-{number + 1}" if len(tables) > 1 else "table")
        flags = [f"--{key}={value}" for key, value in options.items()]
        _table(name, source, folder / f"{title}.md", "markdown", *flags)
        if number == 0:
            _table(name, source, folder / "runs.csv", "csv", *flags)
    if figures:
        _figures(source, folder, figures)
    shown = of_lowest_seed(runs)
    if answers and all((run / "model_outputs.json").exists() for run in shown):
        write_text(folder / "samples.md", samples(shown, answers))
    write_text(folder / "curves.md", curves(shown))
    write_json(folder / "machine.json", machine(runs[0]))


def of_lowest_seed(runs: list[Path]) -> list[Path]:
    """The runs with the lowest seed: one of each setting, if all settings have the same seeds."""
    seeds = {run: yaml.safe_load((run / "config.yaml").read_text("utf-8"))["seed"] for run in runs}
    return [run for run in runs if seeds[run] == min(seeds.values())]


def curves(runs: list[Path]) -> str:
    """Training loss (noised, of the step's batch) and clean eval loss by step, one column per run, as Markdown."""
    rows = {run.name: {row["step"]: row for row in RunFolder(run).metrics()} for run in runs}
    steps = sorted({step for of_run in rows.values() for step in of_run})
    parts = []
    for key, title in (("train/loss", "Training loss"), ("eval/loss", "Eval loss")):
        lines = []
        for step in steps:
            cells = [of_run.get(step, {}).get(key) for of_run in rows.values()]
            if any(cell is not None for cell in cells):
                shown = " | ".join("" if cell is None else f"{cell:.4f}" for cell in cells)
                lines.append(f"| {step} | {shown} |")
        lines = lines[:: -(-len(lines) // _MOST_STEPS) or 1]
        if lines:
            head = ["| step | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
            parts.append(f"## {title}, nats per response token\n\n" + "\n".join([*head, *lines]))
    return "\n\n".join(parts) + "\n"


def _table(name: str, source: Path, target: Path, form: str, *flags: str) -> None:
    command = [sys.executable, "-m", "analysis", "table", name, str(source), *flags, "--format", form]
    subprocess.run([*command, "-o", str(target)], check=True)


def _figures(source: Path, folder: Path, names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as drawn:
        command = [sys.executable, "-m", "analysis", "figures", str(source), "-o", drawn, "--only", ",".join(names)]
        subprocess.run(command, check=True)
        for path in sorted(Path(drawn).glob("*.png")):
            shutil.copyfile(path, folder / path.name)
        shutil.copyfile(Path(drawn) / "captions.md", folder / "captions.md")


def samples(runs: list[Path], count: int) -> str:
    """The first `count` instructions with each run's answer, as Markdown."""
    answers = {run.name: read_json(run / "model_outputs.json") for run in runs}
    first = next(iter(answers.values()))[:count]
    parts = []
    for number, row in enumerate(first):
        parts.append(f"## {number + 1}. {_quoted(row['instruction'])}")
        parts += [f"**{name}**\n\n{_quoted(rows[number]['output'])}" for name, rows in answers.items()]
    return "\n\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines()) or "> (empty)"


def machine(run: Path) -> dict[str, Any]:
    """Commit, command (without paths of files), versions and hardware of a run and of its earlier starts; no diffs."""
    provenance = _without_places(read_json(run / "provenance.json"))
    return {**provenance, "history": [_without_places(each) for each in provenance.get("history", [])]}


def _without_places(start: dict[str, Any]) -> dict[str, Any]:
    """One start as it may be published: a file by its name alone, and that there was a diff."""
    command = [re.sub(r"/\S*/", "", word) for word in start.get("command", [])]
    git = dict(start.get("git", {}))
    dirty = bool(git.pop("diff", ""))
    return {**start, "command": command, "git": {**git, "uncommitted_changes": dirty}}


if __name__ == "__main__":
    main()
