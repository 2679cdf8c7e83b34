"""Selects runs: from all sources, those that were asked for, one of each content."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from analysis.sources.folders import read_folders, run_folders
from analysis.sources.record import CONTENT, Details, RunRecord, flaw_of, with_contents
from analysis.sources.wandb_api import read_project
from analysis.sources.wandb_offline import read_logs
from analysis.suggest import similar
from harness.record.no_result import NO_RESULT

Source = str | Path | Sequence[str | Path]

# Sections that say where and how a run was recorded; runs that differ only here are the same run.
_NO_RESULT_SECTIONS = ("tracking", "harness", "output_dir", "experiment", "stages")
# Parts of names of metrics that differ between any two runs: times and memory.
_COSTS = ("second", "time_percent", "memory")


def read_records(
    source: Source,
    group: str | None = None,
    where: Mapping[str, Any] | None = None,
    filters: Mapping[str, Any] | None = None,
) -> list[RunRecord]:
    """Every run of the sources, whatever its status, ordered by run_id; arguments as for `load_runs`.

    Raises:
        ValueError: a source has no run, or none that was asked for.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    found = _with_contents([run for each in sources for run in _read(each, group, filters)])
    for key, wanted in (where or {}).items():
        found = _of_setting(found, key, wanted)
    return sorted(found, key=lambda run: run.run_id)


def _checked(run: RunRecord) -> RunRecord:
    """The run; unreadable if its settings or numbers are not as the harness writes them (folders say so themselves)."""
    flaw = flaw_of(run.config, run.final) if run.config else ""
    return replace(run, status="unreadable", reason=flaw, config={}, final={}, details=Details()) if flaw else run


def _with_contents(found: list[RunRecord]) -> list[RunRecord]:
    """Add file contents from the run's folder to a W&B log of an earlier version, which has only paths."""
    if len({run.run_id for run in found}) == len(found):
        return found
    noted = {run.run_id: contents for run in found if (contents := contents_of(run.config))}
    return [
        replace(run, config=with_contents(run.config, noted[run.run_id]))
        if run.run_id in noted and not contents_of(run.config)
        else run
        for run in found
    ]


def named(source: Source) -> str:
    """The sources, for a title."""
    return str(source) if isinstance(source, str | Path) else ", ".join(map(str, source))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"train.lr": 5e-5}; whole numbers become int, because W&B does not distinguish 5.0 from 5."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            whole = isinstance(value, float) and value.is_integer()
            flat[prefix + key] = int(value) if whole else value
    return flat


def contents_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of the paths in a run's settings, by key: {"dataset.path": hash}."""
    return {key.removesuffix(CONTENT): value for key, value in flatten(config).items() if key.endswith(CONTENT)}


def content_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a run's results, flat."""
    flat = flatten({key: value for key, value in config.items() if key not in _NO_RESULT_SECTIONS})
    ignored = no_result_keys()
    return {key: value for key, value in flat.items() if key not in ignored}


@cache
def no_result_keys() -> frozenset[str]:
    """Dotted keys that change how a result is obtained, not the result; a judge's name is a label that tables show."""
    return frozenset(f"{section}.{key}" for section, keys in NO_RESULT.items() for key in keys) - {"judge.name"}


def without_duplicates(found: Sequence[RunRecord], include: Sequence[str]) -> tuple[list[RunRecord], list[RunRecord]]:
    """Runs to keep, ordered by id, and the others; of runs with the same content the newest is kept."""
    newest: dict[str, RunRecord] = {}
    left_out = [run for run in found if run.status not in include]
    for run in (run for run in found if run.status in include):
        key = json.dumps(content_settings(run.config), sort_keys=True, default=str)
        older, newer = sorted((newest.get(key, run), run), key=lambda each: (each.finished_at, each.run_id))
        newest[key] = newer
        if older is not newer:
            left_out.append(_as_duplicate(older, newer))
    kept = sorted(newest.values(), key=lambda run: run.run_id)
    return kept, [_superseded(run, [*kept, *left_out]) for run in left_out]


def _read(source: str | Path, group: str | None, filters: Mapping[str, Any] | None) -> list[RunRecord]:
    path = Path(source).expanduser()
    if not _is_there(path):
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            return [_checked(run) for run in read_project(str(source), filters, group)]
        raise ValueError(f"source={source}: no such folder, and not a W&B project (entity/project)")
    if filters:
        raise ValueError(f"filters: only for a W&B project, and {source} is a folder; where={{...}} works for both")
    records = read_folders(path) or [_checked(run) for run in read_logs(path)]
    if not records:
        raise ValueError(f"source={source}: there is no run in it (python -m harness writes them to runs/)")
    return records if group is None else _of_group(records, group, source)


def _is_there(path: Path) -> bool:
    """Whether there is something in the folder: W&B's client leaves empty entity/project/run folders."""
    return path.is_file() or (path.is_dir() and any(each.is_symlink() or not each.is_dir() for each in path.rglob("*")))


def _of_group(found: Sequence[RunRecord], group: str, source: str | Path) -> list[RunRecord]:
    kept = [run for run in found if run.group == group]
    if not kept:
        known = sorted({str(run.group) for run in found if run.group})
        said = f"; there are {_some(known)}" if known else ""
        raise ValueError(f"group={group}: no run of it in {source}{said}")
    return kept


def _of_setting(found: Sequence[RunRecord], key: str, wanted: Any) -> list[RunRecord]:
    """Runs with one of the wanted values; `noise` is short for `noise.name`, and so on."""
    values = [(run, _setting(run, key)) for run in found]
    if found and all(value is _ABSENT for _, value in values):
        raise ValueError(f"where {key}: not a setting of these runs; name a key of config.yaml, like train.lr")
    any_of = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    accepted = {_plain(each) for each in any_of}
    kept = [run for run, value in values if _plain(value) in accepted]
    if not kept:
        known = sorted({str(value) for _, value in values if value is not _ABSENT})
        raise ValueError(f"where {key}={','.join(map(str, any_of))}: no run has it; there are {_some(known)}")
    return kept


_ABSENT = object()


def _setting(run: RunRecord, key: str) -> Any:
    flat = flatten(run.config)
    return flat.get(key, flat.get(f"{key}.name", _ABSENT))


def _plain(value: Any) -> str:
    """One spelling for values that YAML, W&B and a command line write differently: 5, 5.0 and "5"; true and True."""
    try:
        return str(float(value))
    except (TypeError, ValueError):
        return str(value).lower().replace("none", "null")


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _as_duplicate(run: RunRecord, kept: RunRecord) -> RunRecord:
    """Say whether the results agree, apart from times and memory."""
    results, kept_results = (
        {name: value for name, value in each.final.items() if not any(part in name for part in _COSTS)}
        for each in (run, kept)
    )
    agree = "the same results" if results == kept_results else "other results"
    reason = f"same settings and seed as {kept.run_id} ({kept.origin}), {agree}"
    return replace(run, status="duplicate", reason=reason)


def _superseded(run: RunRecord, others: Sequence[RunRecord]) -> RunRecord:
    """Mark an attempt at a run of which another source has more: it is not a second failed or diverged run."""
    if run.status not in ("failed", "diverged"):
        return run
    better = [each for each in others if each.run_id == run.run_id and _reached(each) > _reached(run)]
    if not better:
        return run
    best = max(better, key=_reached)
    return replace(run, status="duplicate", reason=f"{run.status} attempt at {best.run_id} ({best.origin})")


def _reached(run: RunRecord) -> tuple[bool, float, str]:
    return run.status in ("finished", "diverged"), run.finished_at, run.origin


def find_run(name: str, source: str) -> RunRecord:
    """The one run that matches a name.

    Raises:
        ValueError: none does, or several do.
    """
    if Path(name).is_dir() and run_folders(Path(name)) == [Path(name)]:
        alone = read_folders(Path(name))
        if not alone or alone[0].status == "foreign":
            raise ValueError(f"run {name!r}: its config.yaml is not one of this harness")
        if alone[0].status == "unreadable":
            raise ValueError(f"run {name!r}: {alone[0].reason}")
        return alone[0]
    records = read_records(source)
    found = [run for run in records if run.run_id == name] or [run for run in records if name in run.run_id]
    if len(found) != 1:
        near = similar(name, [run.run_id for run in records])
        some = ", ".join([run.run_id for run in found[:5]] or near or [run.run_id for run in records[:5]])
        said = (
            f"{len(found)} runs in {source} go by it: {some}"
            if found
            else f"no run in {source} goes by it; there is {some}"
        )
        raise ValueError(f"run {name!r}: {said}{', ...' if max(len(found), len(records)) > 5 else ''}")
    return found[0]


def judge_of(run: RunRecord) -> dict[str, Any]:
    """The settings of a run's judge that determine its verdicts."""
    return {key: value for key, value in content_settings(run.config).items() if key.startswith("judge.")}
