"""Runs from any source as tidy frames; what cannot be averaged is listed apart, with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.disk import read_folders
from analysis.offline import read_logs
from analysis.online import read_project
from analysis.source import STATUSES, RunRecord
from harness.metrics.preferences import win_fractions

# A run's place in a study: columns that every runs frame has, before its metrics.
IDENTITY = ["model", "dataset", "eval_set", "noise", "alpha", "seed", "judge", "experiment", "group"]
# Settings that say where and how a run was recorded; two runs that differ only here are the same run.
_NOT_CONTENT = ("tracking", "harness", "output_dir", "experiment", "stages")
_NOT_CONTENT_KEYS = {
    *("train.name", "train.log_every", "train.checkpoint_every", "train.keep_model", "generate.name"),
    *("train.keep_checkpoints", "train.heldout_every", "model.shape"),
    *("judge.store", "judge.concurrency", "judge.retries", "judge.timeout_s", "judge.api_key_env", "judge.python"),
    *("train.devices", "train.nodes", "train.sharding", "train.cpu_offload"),
    *("probe.name", "probe.max_tokens", "probe.every", "judge.unparsed_retries"),
    *("judge.max_calls", "judge.max_usd", "judge.usd_per_million_input", "judge.usd_per_million_output"),
}


class Runs:
    """Finished runs of a source as frames; the others in `excluded`.

    runs: one row per run: run_id, status, IDENTITY columns, then one float column per final metric.
    configs: one row per run, indexed by run_id, one column per setting, named by dotted key.
    history: run_id, step, one float column per logged metric (NaN where a step did not log it).
    generations: run_id, item, dataset (category), instruction, output, length (characters).
    preferences: run_id, item, annotator, dataset, instruction, preference (as annotated), model_wins (0 to 1, NaN
    where the verdict was not understood), length and reference_length (characters).
    excluded: run_id, status, reason, origin, IDENTITY columns.

    Every source gives the same frames. alpha, metrics, preference and model_wins are float64; seed, step, item and
    lengths are int64; configs is of objects, whole numbers as int. There are no times but durations among the metrics.
    """

    def __init__(self, records: Sequence[RunRecord], left_out: Sequence[RunRecord] = ()) -> None:
        self.records, self.left_out = list(records), list(left_out)

    @property
    def without_result(self) -> list[RunRecord]:
        """Runs that ended without a result: diverged or failed."""
        return [run for run in self.left_out if run.status in ("diverged", "failed")]

    @cached_property
    def runs(self) -> pd.DataFrame:
        rows = [
            {"run_id": run.run_id, "status": run.status, **_identity(run.config)} | _numbers(run.final)
            for run in self.records
        ]
        frame = pd.DataFrame(rows, columns=None if rows else ["run_id", "status", *IDENTITY])
        metrics = sorted(set(frame.columns) - {"run_id", "status", *IDENTITY})
        return frame[["run_id", "status", *IDENTITY, *metrics]].astype({"alpha": float})

    @cached_property
    def configs(self) -> pd.DataFrame:
        rows = [flatten(run.config) for run in self.records]
        index = pd.Index([run.run_id for run in self.records], name="run_id", dtype=str)
        return pd.DataFrame(rows, index=index, dtype=object).sort_index(axis=1)

    @cached_property
    def history(self) -> pd.DataFrame:
        # One frame per run: as dicts, half a million rows would need a gigabyte at once.
        frames = [frame for run in self.records if not (frame := _history_of(run)).empty]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", "step"])
        metrics = sorted(set(frame.columns) - {"run_id", "step"})
        return frame[["run_id", "step", *metrics]]

    @cached_property
    def generations(self) -> pd.DataFrame:
        columns = ["run_id", "item", "dataset", "instruction", "output", "length"]
        return pd.DataFrame(self._collect(self._generations_of), columns=columns)

    @cached_property
    def preferences(self) -> pd.DataFrame:
        columns = ["run_id", "item", "annotator", "dataset", "instruction"]
        numbers = ["preference", "model_wins", "length", "reference_length"]
        return pd.DataFrame(self._collect(self._preferences_of), columns=[*columns, *numbers])

    @cached_property
    def wins(self) -> pd.DataFrame:
        """The model's share of each verdict in [0, 1]: instructions down (n-th occurrence apart), runs across."""
        frame = self.preferences
        occurrence = frame.groupby(["run_id", "instruction"]).cumcount()
        keyed = frame.assign(occurrence=occurrence).set_index(["instruction", "occurrence", "run_id"])
        return keyed["model_wins"].unstack("run_id")

    @cached_property
    def excluded(self) -> pd.DataFrame:
        rows = [
            {"run_id": run.run_id, "status": run.status, "reason": run.reason, "origin": run.origin}
            | _identity(run.config)
            for run in self.left_out
        ]
        return pd.DataFrame(rows, columns=["run_id", "status", "reason", "origin", *IDENTITY])

    def _collect(self, rows_of: Callable[[RunRecord], Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
        return [row for run in self.records for row in rows_of(run)]

    def _generations_of(self, run: RunRecord) -> Iterable[dict[str, Any]]:
        for item, row in enumerate(run.details.outputs()):
            output = row["output"]
            kept = {"dataset": row.get("dataset"), "instruction": row["instruction"], "output": output}
            yield {"run_id": run.run_id, "item": item, **kept, "length": len(output)}

    def _preferences_of(self, run: RunRecord) -> Iterable[dict[str, Any]]:
        rows = run.details.annotations()
        wins = win_fractions([row.get("preference") for row in rows])
        for item, row in enumerate(rows):
            yield {
                "run_id": run.run_id,
                "item": item,
                "annotator": row.get("annotator"),
                "dataset": row.get("dataset"),
                "instruction": row["instruction"],
                "preference": _number(row.get("preference")),
                "model_wins": float(wins[item]),
                "length": len(row["output_2"]),
                "reference_length": len(row["output_1"]),
            }


def _history_of(run: RunRecord) -> pd.DataFrame:
    frame = pd.DataFrame(run.details.history())
    metrics = [name for name in frame if name != "step"]
    return frame.astype(dict.fromkeys(metrics, float)).assign(run_id=run.run_id)


def load_runs(source: str | Path, include: Sequence[str] = ("finished",), **options: Any) -> Runs:
    """Runs of a folder of run folders, a folder of offline W&B logs, or a W&B project ("entity/project").

    `include` names the statuses to keep (see STATUSES); the rest, and all but the newest of runs with the same
    settings and seed, is in `.excluded`. Options go to the W&B API: `filters`, `group`.

    Raises:
        ValueError: there is nothing of the kind, or a file does not hold what it should.
    """
    unknown = set(include) - set(STATUSES)
    if unknown:
        raise ValueError(f"include={sorted(unknown)[0]!r}: expected any of {', '.join(STATUSES)}")
    return Runs(*_without_duplicates(read_records(source, **options), include))


def read_records(source: str | Path, **options: Any) -> list[RunRecord]:
    """Every run of a source, whatever its status, ordered by run_id."""
    path = Path(source).expanduser()
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            return read_project(str(source), **options)
        raise ValueError(f"source={source}: no such folder, and not a W&B project (entity/project)")
    if options:
        raise ValueError(f"{', '.join(options)}: only a W&B project can be filtered; {source} is a folder")
    records = read_folders(path) or read_logs(path)
    if not records:
        raise ValueError(f"source={source}: there is no run in it (python -m harness writes them to runs/)")
    return records


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"train.lr": 5e-5}; whole numbers become int, because W&B does not keep 5.0 apart from 5."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            whole = isinstance(value, float) and value.is_integer()
            flat[prefix + key] = int(value) if whole else value
    return flat


def content_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide a run's results, flat."""
    flat = flatten({key: value for key, value in config.items() if key not in _NOT_CONTENT})
    return {key: value for key, value in flat.items() if key not in _NOT_CONTENT_KEYS}


def _without_duplicates(found: Sequence[RunRecord], include: Sequence[str]) -> tuple[list[RunRecord], list[RunRecord]]:
    """Kept runs in the order of their ids, and the others; of runs with the same content the newest stays."""
    newest: dict[str, RunRecord] = {}
    left_out = [run for run in found if run.status not in include]
    for run in (run for run in found if run.status in include):
        key = json.dumps(content_settings(run.config), sort_keys=True, default=str)
        older, newer = sorted((newest.get(key, run), run), key=lambda each: (each.finished_at, each.run_id))
        newest[key] = newer
        if older is not newer:
            left_out.append(_as_duplicate(older, newer))
    return sorted(newest.values(), key=lambda run: run.run_id), left_out


def _as_duplicate(run: RunRecord, kept: RunRecord) -> RunRecord:
    """Says whether the results agree; times differ between any two runs."""
    results, kept_results = (
        {name: value for name, value in each.final.items() if "second" not in name} for each in (run, kept)
    )
    agree = "the same results" if results == kept_results else "other results"
    reason = f"same settings and seed as {kept.run_id} ({kept.origin}), {agree}"
    return replace(run, status="duplicate", reason=reason)


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    named = {key: (config.get(key) or {}).get("name") for key in ("model", "dataset", "eval_set", "noise", "judge")}
    plain = {key: config.get(key) for key in ("alpha", "seed", "experiment")}
    return {key: (named | plain | {"group": (config.get("tracking") or {}).get("group")})[key] for key in IDENTITY}


def _numbers(final: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in final.items()}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
