"""`python -m analysis status`: every run with its state, stage, last sign of life, and why it has no result."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Any

from analysis.commands.options import add_format, add_sources, selection
from analysis.render.formats import render
from analysis.render.table import Column, Table, Value
from analysis.sources.history import last_row
from analysis.sources.record import RunRecord
from analysis.sources.runs import load_runs
from analysis.sources.select import Source, named
from harness.metrics.names import EPOCH
from harness.record import METRICS, RunFolder

# More finished runs would push the others off the screen.
_MOST_FINISHED = 20
_REASON = 160  # characters; log.txt has the rest
_AT_END = ("finished", "duplicate")
# Between two runs of a sweep none is running: stop watching after seeing that this many times in a row.
_LOOKS = 2
_ORDER = ("running", "incomplete", "failed", "diverged", "duplicate", "unreadable", "foreign", "finished")


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_sources(command)
    command.add_argument("--all", action="store_true", help="also list finished runs, however many")
    command.add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="repeat every 10 s while runs are running"
    )
    add_format(command)


def run(arguments: argparse.Namespace) -> str:
    """The table; with --watch printed again until no run is running."""
    idle = 0
    while True:
        table = status(arguments.source, every=arguments.all, **selection(arguments))
        text = render([table], arguments.format)
        idle = 0 if is_running(table) else idle + 1
        if arguments.watch is None or idle == _LOOKS:
            return text
        print(f"\033[H\033[J{text}" if sys.stdout.isatty() else text, flush=True)
        time.sleep(arguments.watch)


def status(source: Source = "runs", now: float | None = None, every: bool = True, **options: Any) -> Table:
    """One row per run, unfinished ones first; the title counts them. Options: see `load_runs`.

    every: list finished runs even if there are many.

    Raises:
        ValueError: there is no run in `source`.
    """
    runs = load_runs(source, **options)
    records = [*runs.records, *runs.left_out]
    counts = Counter(run.status for run in records)
    said = ", ".join(f"{counts[name]} {name}" for name in _ORDER if counts[name])
    columns = [Column(name, is_text=True) for name in ("status", "progress", "last sign of life", "reason")]
    table = Table("status", f"{len(records)} runs in {named(source)}: {said}", ["run"], columns)
    listed = records if every or counts["finished"] <= _MOST_FINISHED else runs.left_out
    for run in sorted(listed, key=lambda run: (_ORDER.index(run.status), run.run_id)):
        table.rows.append(([run.run_id], _cells(run, time.time() if now is None else now)))
    if len(listed) < len(records):
        table.notes.append(f"{counts['finished']} finished runs are not listed; --all lists them")
    folders = [run for run in records if (Path(run.origin) / "config.yaml").is_file()]
    groups = {str(run.group): run for run in sorted(folders, key=_started_at)}
    table.notes += [note for group, newest in groups.items() if (note := _queue_note(group, newest, folders))]
    return table


def is_running(table: Table) -> bool:
    """Whether any run in a status table is still running."""
    return any(values[0] == "running" for _, values in table.rows)


def _started_at(run: RunRecord) -> float:
    return (Path(run.origin) / "config.yaml").stat().st_mtime


def _queue_note(group: str, newest: RunRecord, folders: Sequence[RunRecord]) -> str:
    """How many runs of a sweep are still waiting, and for how long, from each run's position in the queue.

    Based on the times of the sweep's finished runs, with as many at once as are running now.
    """
    place, _, total = str((newest.config.get("harness") or {}).get("position") or "").partition("/")
    waiting = int(total) - int(place) if total else 0
    if not waiting:
        return ""
    members = [run for run in folders if str(run.group) == group]
    said = f"{group}: {waiting} of {total} not started"
    spent = [sum(stage["seconds"] for stage in RunFolder(Path(run.origin)).stages().values()) for run in members]
    spent = [seconds for run, seconds in zip(members, spent, strict=True) if run.status == "finished"]
    running = sum(run.status == "running" for run in members)
    if not spent or not running:
        return said
    return f"{said}; about {span(waiting * fmean(spent) / running)} at the pace of its finished runs"


def _cells(run: RunRecord, now: float) -> list[Value]:
    folder = Path(run.origin)
    if not (folder / "config.yaml").is_file():
        step = "" if run.step is None or run.status in _AT_END else f"step {_steps(run, {'step': run.step})}"
        return [
            run.status,
            step,
            age(now - run.finished_at) if run.finished_at else "",
            shorten(run.reason, _REASON, placeholder=" ..."),
        ]
    seen = max((path.stat().st_mtime for path in folder.iterdir() if path.is_file()), default=now)
    return [
        run.status,
        _progress(run, RunFolder(folder)),
        age(now - seen),
        shorten(run.reason, _REASON, placeholder=" ..."),
    ]


def _progress(run: RunRecord, folder: RunFolder) -> str:
    """Number of stages done, the current one, and its training step."""
    wanted: Sequence[str] = run.config.get("stages") or []
    done = [stage for stage in wanted if stage in folder.stages()]
    text = f"{len(done)} of {len(wanted)} stages"
    left = [stage for stage in wanted if stage not in done]
    if run.status in (*_AT_END, "diverged") or not left:
        return text
    row = last_row(folder / METRICS) if left[0] == "train" else {}
    return f"{text}, {left[0]}{f': step {_steps(run, row)}' if row else ''}"


def _steps(run: RunRecord, row: dict[str, float]) -> str:
    """The last logged step, with the percentage of training if the config gives its length."""
    train = run.config.get("train") or {}
    step, steps = int(row["step"]), train.get("max_steps")
    if steps:
        return f"{step} of {steps}"
    epoch = row.get(EPOCH)
    if epoch and train.get("epochs"):
        return f"{step} ({100 * epoch / train['epochs']:.0f}%)"
    return f"{step}"


def age(seconds: float) -> str:
    """How long ago something was."""
    return f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A time span in its two largest units."""
    whole = max(0, int(seconds))
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller_size} {smaller}"
    return f"{whole} s"
