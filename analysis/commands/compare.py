"""`python -m analysis compare`: two runs side by side: differing settings, code and machine; results, verdicts."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.commands.options import SOURCE, add_format
from analysis.render.formats import render
from analysis.render.table import Column, Table, Value
from analysis.sources.record import RunRecord
from analysis.sources.runs import Runs
from analysis.sources.select import find_run, flatten, judge_of
from analysis.stats import Estimate
from analysis.study.comparable import UNSET
from analysis.study.measures import Measures
from analysis.study.metrics import metric
from harness.metrics.names import WIN_RATE
from harness.record import read_mapping

# Where a run was recorded, and its position in a sweep: different for any two runs.
_RECORDING = ("harness.", "tracking.", "output_dir")
# Metrics that come from verdicts.
_JUDGED = "judge/"
_NAN = float("nan")
# Parts of provenance.json that can change a result; the command and the time of the start differ anyway.
_PROVENANCE = ("git", "python", "versions", "hardware")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", metavar="RUN", help="a run folder, or (part of) an id in SOURCE")
    command.add_argument("second", metavar="RUN")
    command.add_argument("--source", default="runs", metavar="SOURCE", help=f"{SOURCE} (default: runs)")
    add_format(command)


def run(arguments: argparse.Namespace) -> str:
    """The comparison in the format that was asked for."""
    return render(compare(arguments.first, arguments.second, arguments.source), arguments.format)


def compare(first: str, second: str, source: str = "runs") -> list[Table]:
    """Tables of the settings in which two runs differ and of their results; if both have a folder, also of their code.

    A run is named by its folder, by its id in `source`, or by any part of an id that is unique there.

    Raises:
        ValueError: no run, or more than one, matches a name.
    """
    pair = [find_run(name, source) for name in (first, second)]
    if pair[0].origin == pair[1].origin:
        raise ValueError(f"{first} and {second} are the same run: {pair[0].origin}")
    return [_settings_table(*pair), *_provenance_table(*pair), _results_table(*pair)]


def _settings_table(first: RunRecord, second: RunRecord) -> Table:
    ours, theirs = flatten(first.config), flatten(second.config)
    heads = [replace(head, is_text=True) for head in _heads(first, second)]
    table = Table("settings", "Settings that differ", ["setting"], heads)
    for key in (key for key in sorted({*ours, *theirs}) if not key.startswith(_RECORDING)):
        values = [str(flat.get(key, UNSET)) for flat in (ours, theirs)]
        if values[0] != values[1]:
            table.rows.append(([key], [*values]))
    if not table.rows:
        table.notes.append("none: the two runs have the same settings")
    return table


def _provenance_table(first: RunRecord, second: RunRecord) -> list[Table]:
    """Commit, uncommitted changes, versions and hardware that differ; no table if a run has no such file."""
    paths = [Path(run.origin) / "provenance.json" for run in (first, second)]
    if not all(path.is_file() for path in paths):
        return []
    ours, theirs = (flatten({key: read_mapping(path).get(key) for key in _PROVENANCE}) for path in paths)
    heads = [replace(head, is_text=True) for head in _heads(first, second)]
    table = Table("provenance", "Code and machine that differ", ["what"], heads)
    for key in sorted({*ours, *theirs}):
        values = [flat.get(key, UNSET) for flat in (ours, theirs)]
        if values[0] != values[1]:
            shown = [f"{len(value)} characters" if key == "git.diff" else str(value) for value in values]
            table.rows.append(([key], [*shown]))
    return [table] if table.rows else []


def _results_table(first: RunRecord, second: RunRecord) -> Table:
    """Every final number of either run; the difference is second - first, relative to first.

    There is none for verdicts of different judges.
    """
    columns = [*_heads(first, second), Column("difference"), Column("relative", "%", 1, signed=True)]
    table = Table("results", "Results", ["metric"], columns)
    table.rows.append((["status"], [first.status, second.status, "", ""]))
    comparable = judge_of(first) == judge_of(second)
    for name in sorted({*first.final, *second.final}):
        values = [run.final.get(name) for run in (first, second)]
        changes: list[Value] = ["", ""]
        if comparable or not name.startswith(_JUDGED):
            changes = _changes(name, *values)
        table.rows.append(([name], [*(_number(name, value) for value in values), *changes]))
    table.notes += _verdict_notes(first, second)
    return table


def _heads(first: RunRecord, second: RunRecord) -> list[Column]:
    same = first.run_id == second.run_id
    return [Column(run.origin if same else run.run_id) for run in (first, second)]


def _number(name: str, value: float | None) -> Value:
    return _NAN if value is None else Column("", decimals=metric(name).decimals).number(value)


def _changes(name: str, ours: float | None, theirs: float | None) -> list[Value]:
    if ours is None or theirs is None:
        return ["", ""]
    relative: Value = 100 * (theirs / ours - 1) if ours > 0 else ""
    return [Column("", decimals=metric(name).decimals).number(theirs - ours, signed=True), relative]


def _verdict_notes(first: RunRecord, second: RunRecord) -> list[str]:
    """Notes on verdicts, paired over the instructions that both runs answered, under the same judge."""
    judges = [judge_of(run) for run in (first, second)]
    if judges[0] != judges[1]:
        names = " and ".join(sorted(str(judge.get("judge.name")) for judge in judges))
        return [f"different judges ({names}): their win rates do not compare"]
    if first.run_id == second.run_id:
        return []
    measures = Measures(Runs([first, second]))
    wins = measures.wins([first.run_id, second.run_id])
    if wins.empty:
        return ["no instruction has a verdict in both: their win rates do not compare"]
    change = np.sign(wins[second.run_id] - wins[first.run_id])
    found = measures.difference(WIN_RATE, [second.run_id], [first.run_id])
    assert isinstance(found, Estimate)
    better, worse, equal = (int((change == sign).sum()) for sign in (1, -1, 0))
    said = f"{found.mean:+.1f} points"
    if not np.isnan(found.low):
        said += f", 95% interval [{found.low:+.1f}, {found.high:+.1f}] over instructions"
    return [
        f"on {len(wins)} common instructions {second.run_id} is"
        f" better on {better}, worse on {worse}, equal on {equal}: {said}"
    ]
