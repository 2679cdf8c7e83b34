"""Runs from any source as tidy frames; runs that cannot be averaged are listed separately, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from analysis.sources.fetch import fetch
from analysis.sources.record import STATUSES, Details, RecordPart, RunRecord
from analysis.sources.select import Source, flatten, read_records, without_duplicates
from harness.metrics.preferences import win_fractions

Made = TypeVar("Made")

# Columns that identify a run in a study; every runs frame has them before its metrics.
IDENTITY = ["model", "dataset", "eval_set", "noise", "alpha", "seed", "judge", "experiment", "group"]


class UnreadableRun(ValueError):
    """A part of a run is not as the harness writes it."""


class Runs:
    """Finished runs of a source as frames; the others in `excluded`.

    runs: one row per run: run_id, status, IDENTITY columns, then one float column per final metric.
    configs: one row per run, indexed by run_id, one column per setting, named by dotted key.
    history: run_id, step, one float column per logged metric (NaN where a step did not log it); no rows without any.
    generations: run_id, item, dataset (category), instruction, output, length (characters).
    preferences: run_id, item, annotator, dataset, instruction, preference (as annotated), model_wins (0 to 1, NaN
    if the verdict was not understood), correct and partial_credit (0 to 1 by a checker, else NaN), length and
    reference_length (characters).
    excluded: run_id, status, reason, origin, IDENTITY columns.

    Every source gives the same frames. alpha, metrics, preference and model_wins are float64; seed, step, item and
    lengths are int64; configs has objects, whole numbers as int. The only times are durations among the metrics.
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
        fetch([run.details for run in self.records], "history")
        frames = [frame for run in self.records if not (frame := _whole(run, _history_of)).empty]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", "step"])
        metrics = sorted(set(frame.columns) - {"run_id", "step"})
        return frame[["run_id", "step", *metrics]]

    @cached_property
    def generations(self) -> pd.DataFrame:
        columns = ["run_id", "item", "dataset", "instruction", "output", "length"]
        return pd.DataFrame(self._rows("outputs", self._generations_of), columns=columns)

    @cached_property
    def preferences(self) -> pd.DataFrame:
        columns = ["run_id", "item", "annotator", "dataset", "instruction"]
        numbers = ["preference", "model_wins", "correct", "partial_credit", "length", "reference_length"]
        return pd.DataFrame(self._rows("annotations", self._preferences_of), columns=[*columns, *numbers])

    @cached_property
    def wins(self) -> pd.DataFrame:
        """The model's share of each verdict in [0, 1]: instructions down (n-th occurrence apart), runs across."""
        return self.by_item("model_wins")

    def by_item(self, column: str) -> pd.DataFrame:
        """A column of `preferences`: instructions down (n-th occurrence apart), runs across."""
        return self._keyed[column].unstack("run_id")

    @cached_property
    def clusters(self) -> pd.Series:
        """The task family or source of each instruction, by (instruction, occurrence); "" if rows name none."""
        return self._keyed["dataset"].groupby(level=["instruction", "occurrence"]).first().fillna("").map(str)

    @cached_property
    def _keyed(self) -> pd.DataFrame:
        frame = self.preferences
        occurrence = frame.groupby(["run_id", "instruction"]).cumcount()
        return frame.assign(occurrence=occurrence).set_index(["instruction", "occurrence", "run_id"])

    @cached_property
    def excluded(self) -> pd.DataFrame:
        rows = [
            {"run_id": run.run_id, "status": run.status, "reason": run.reason, "origin": run.origin}
            | _identity(run.config)
            for run in self.left_out
        ]
        frame = pd.DataFrame(rows, columns=["run_id", "status", "reason", "origin", *IDENTITY])
        return frame.astype({"alpha": float})

    def _rows(self, part: RecordPart, rows_of: Callable[[RunRecord], Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
        fetch([run.details for run in self.records], part)
        return [row for run in self.records for row in _whole(run, lambda run: list(rows_of(run)))]

    def readable(self) -> Runs:
        """The runs with all parts readable; the others are left out as unreadable, each with the reason."""
        kept, damaged = list[RunRecord](), list[RunRecord]()
        for run in self.records:
            try:
                for read in (self._preferences_of, self._generations_of):
                    _whole(run, lambda run, read=read: list(read(run)))  # type: ignore[misc]
                _whole(run, _history_of)
                kept.append(run)
            except UnreadableRun as error:
                damaged.append(replace(run, status="unreadable", reason=str(error), details=Details()))
        return Runs(kept, [*self.left_out, *damaged])

    def _generations_of(self, run: RunRecord) -> Iterable[dict[str, Any]]:
        for item, row in enumerate(run.details.outputs()):
            output = row["output"]
            kept = {"dataset": _text(row.get("dataset")), "instruction": row["instruction"], "output": output}
            yield {"run_id": run.run_id, "item": item, **kept, "length": len(output)}

    def _preferences_of(self, run: RunRecord) -> Iterable[dict[str, Any]]:
        rows = run.details.annotations()
        wins = win_fractions([row.get("preference") for row in rows])
        for item, row in enumerate(rows):
            yield {
                "run_id": run.run_id,
                "item": item,
                "annotator": _text(row.get("annotator")),
                "dataset": _text(row.get("dataset")),
                "instruction": row["instruction"],
                "preference": _number(row.get("preference")),
                "model_wins": float(wins[item]),
                "correct": _number(row.get("correct")),
                "partial_credit": _number(row.get("partial_credit")),
                "length": len(row["output_2"]),
                "reference_length": len(row["output_1"]),
            }


def _history_of(run: RunRecord) -> pd.DataFrame:
    """Without rows that have no number: W&B's exports have one for each step that logged only a table."""
    frame = run.details.history_frame()
    metrics = [name for name in frame if name != "step"]
    frame = frame.dropna(how="all", subset=metrics)
    return frame.astype(dict.fromkeys(metrics, float)).assign(run_id=run.run_id)


def _whole(run: RunRecord, read: Callable[[RunRecord], Made]) -> Made:
    """The result of `read` on a part of a run.

    Raises:
        UnreadableRun: the part is not as the harness writes it.
    """
    try:
        return read(run)
    except (ValueError, OSError, OverflowError) as error:
        said = str(error)
        raise UnreadableRun(said if run.origin in said else f"{run.origin}: {said}") from error


def made_of_readable(runs: Runs, make: Callable[[Runs], Made]) -> Made:
    """The result of `make` on these runs or, if a part of one is unreadable, on those that can be read."""
    try:
        return make(runs)
    except UnreadableRun:
        return make(runs.readable())


def load_runs(source: Source, include: Sequence[str] = ("finished",), **options: Any) -> Runs:
    """Runs of folders of run folders, folders of offline W&B logs, W&B projects ("entity/project"), one or several.

    `include` names the statuses to keep (see STATUSES); the rest, and all but the newest of runs with the same
    settings and seed, is in `.excluded`. Options, for every source: `group` (the name of a sweep); `where`, settings
    and the values to keep, like {"noise": ["none", "neftune"], "train.lr": 5e-5}. For W&B alone: `filters`, in the
    language of its API, applied by the server.

    Raises:
        ValueError: there is no such source, or a file has unexpected content.
    """
    unknown = set(include) - set(STATUSES)
    if unknown:
        raise ValueError(f"include={sorted(unknown)[0]!r}: expected any of {', '.join(STATUSES)}")
    return Runs(*without_duplicates(read_records(source, **options), include))


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    named = {key: (config.get(key) or {}).get("name") for key in ("model", "dataset", "eval_set", "noise", "judge")}
    plain = {key: config.get(key) for key in ("alpha", "seed", "experiment")}
    return {key: (named | plain | {"group": (config.get("tracking") or {}).get("group")})[key] for key in IDENTITY}


def _numbers(final: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in final.items()}


def _number(value: Any) -> float:
    if not isinstance(value, int | float | None):
        raise ValueError(f"expected a number, found {str(value)[:60]!r}")
    return float("nan") if value is None else float(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
