"""What was run: counts, shared settings, code and machine, and caveats."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.sources.record import IDENTITY, RunRecord
from analysis.sources.runs import Runs
from analysis.sources.select import content_settings, judge_of
from analysis.study.comparable import settings_of
from analysis.study.rows import sort_label
from harness.record import read_mapping
from harness.record.provenance import as_typed

_MOST_COMMANDS = 10


def facts(runs: Runs) -> list[tuple[str, str]]:
    """Each identifying setting with its values, and how many finished runs have each; then instructions and times."""
    alpha = settings_of(runs)["alpha"].reindex(runs.runs["run_id"])
    values = {name: runs.runs[name].dropna().map(str) for name in IDENTITY} | {"alpha": alpha[alpha != ""]}
    values["instructions judged"] = runs.preferences.groupby("run_id").size().map(str)
    found = [(name, _counted(each)) for name, each in values.items() if len(each)]
    return [*found, *_times(runs)]


def _counted(values: Iterable[str]) -> str:
    shown = sorted(Counter(values).items(), key=lambda pair: sort_label(pair[0]))
    return ", ".join(f"{value} ({count})" for value, count in shown)


def _times(runs: Runs) -> list[tuple[str, str]]:
    """Total training time of all runs."""
    seconds = sum(run.final.get("train/seconds") or 0.0 for run in runs.records)
    return [("training", f"{seconds / 3600:.2g} hours in all")] if seconds else []


def counts(runs: Runs) -> str:
    """ "24 finished, 1 failed": every run of the source is in one of the numbers."""
    others = runs.excluded["status"].value_counts()
    return ", ".join([f"{len(runs.records)} finished", *(f"{count} {name}" for name, count in others.items())])


def common_settings(runs: Runs) -> dict[str, str]:
    """Settings that are the same in every run, finished or not."""
    flat = [content_settings(run.config) for run in (*runs.records, *runs.left_out)]
    return {key: str(value) for key, value in flat[0].items() if all(other.get(key) == value for other in flat)}


def cautions(runs: Runs) -> list[str]:
    """What a reader should know before the first number."""
    said = []
    judges = Counter(json.dumps(judge_of(run), sort_keys=True, default=str) for run in runs.records)
    if len(judges) > 1:
        said.append(f"{len(judges)} judges: win rates of different judges stand in different tables and do not compare")
    if (sets := runs.runs["eval_set"].nunique()) > 1:
        said.append(f"{sets} evaluation sets: win rates on different instructions stand in different tables")
    status = Counter(run.status for run in runs.without_result)
    if status:
        lost = ", ".join(f"{count} {name}" for name, count in status.items())
        said.append(f"{lost}: in no mean below; tables count them beside the runs that finished")
    single = _single_runs(runs)
    if single:
        cells = "one setting has a single run" if single == 1 else f"{single} settings have a single run"
        said.append(f"{cells}: intervals there do not count seeds")
    return said


def _single_runs(runs: Runs) -> int:
    """Settings (without the seed) that only one finished run has."""
    settings = [{key: v for key, v in content_settings(run.config).items() if key != "seed"} for run in runs.records]
    counted = Counter(json.dumps(each, sort_keys=True, default=str) for each in settings)
    return sum(1 for count in counted.values() if count == 1)


def provenance(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Times, commits, machines, versions and commands, each with the number of runs; only run folders have them."""
    found = [read for run in records if (read := _read(Path(run.origin) / "provenance.json"))]
    if not found:
        return []
    rows = [
        ("started", _span(str(each.get("started_at", "")) for each in found)),
        ("commit", _tallied(_commit(each) for each in found)),
        ("versions", _tallied(_pairs(each.get("versions"), python=each.get("python")) for each in found)),
        ("hardware", _tallied(_pairs(each.get("hardware")) for each in found)),
    ]
    commands = _tallied(_command(each.get("command")) for each in found)
    if len(commands) > _MOST_COMMANDS:
        commands = [*commands[:_MOST_COMMANDS], f"and {len(commands) - _MOST_COMMANDS} other commands"]
    return [(name, values) for name, values in (*rows, ("command", commands)) if values]


def _span(times: Iterable[str]) -> list[str]:
    """The first and last of some times."""
    known = sorted(time for time in times if time)
    return [" to ".join(dict.fromkeys((known[0], known[-1])))] if known else []


def _commit(read: dict[str, Any]) -> str:
    git = _mapping(read.get("git"))
    changed = git.get("changed") or git.get("diff")
    return f"{git.get('commit', 'unknown')}{', with uncommitted changes' if changed else ''}"


def _command(arguments: Any) -> str:
    """The command that runs the same again."""
    return shlex.join(as_typed([str(word) for word in arguments])) if isinstance(arguments, list) and arguments else ""


def _pairs(values: Any, **more: Any) -> str:
    named = {**more, **(values if isinstance(values, dict) else {})}
    return ", ".join(f"{key} {_plain(value)}" for key, value in named.items() if value not in (None, [], ""))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _tallied(values: Iterable[str]) -> list[str]:
    counts = Counter(value for value in values if value)
    return [value if count == sum(counts.values()) else f"{value} ({count} runs)" for value, count in counts.items()]


def _read(path: Path) -> dict[str, Any]:
    """Read provenance, which the page can do without: an unreadable file counts as missing."""
    try:
        return read_mapping(path)
    except (OSError, ValueError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
