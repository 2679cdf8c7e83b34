"""Records of runs as tidy frames: what `analysis.sources.runs.Runs` describes, made of records and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from analysis.sources.preferences import Items, Preferences, numbers, text
from analysis.sources.record import IDENTITY, RunRecord
from analysis.sources.select import flatten


def runs_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per run with its final numbers."""
    rows = [{"run_id": run.run_id, "status": run.status, **_identity(run.config)} for run in records]
    named = pd.DataFrame(rows, columns=["run_id", "status", *IDENTITY]).astype({"alpha": float})
    return pd.concat([named, _metrics(records)], axis=1)


def _metrics(records: Sequence[RunRecord]) -> pd.DataFrame:
    """A float column for each final number; one array, because hundreds of columns of their own are slow."""
    names = sorted({name for run in records for name in run.final})
    place = {name: column for column, name in enumerate(names)}
    columns: dict[tuple[str, ...], list[int]] = {}
    values = np.full((len(records), len(names)), np.nan)
    for row, run in enumerate(records):
        key = tuple(run.final)
        if key not in columns:
            columns[key] = [place[name] for name in key]
        values[row, columns[key]] = numbers(run.final.values())
    return pd.DataFrame(values, columns=names)


def configs_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per run with its settings."""
    index = pd.Index([run.run_id for run in records], name="run_id", dtype=str)
    return pd.DataFrame([flatten(run.config) for run in records], index=index, dtype=object).sort_index(axis=1)


def excluded_frame(left_out: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per run that is left out, with the reason."""
    rows = [
        {"run_id": run.run_id, "status": run.status, "reason": run.reason, "origin": run.origin} | _identity(run.config)
        for run in left_out
    ]
    frame = pd.DataFrame(rows, columns=["run_id", "status", "reason", "origin", *IDENTITY])
    return frame.astype({"alpha": float})


def history_of(run: RunRecord) -> pd.DataFrame:
    """Without rows that have no number: W&B's exports have one for each step that logged only a table."""
    frame = run.details.history_frame()
    metrics = [name for name in frame if name != "step"]
    frame = frame.dropna(how="all", subset=metrics)
    return frame.astype(dict.fromkeys(metrics, float)).assign(run_id=run.run_id)


def history_frame(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The logged steps of all runs."""
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", "step"])
    metrics = sorted(set(frame.columns) - {"run_id", "step"})
    return frame[["run_id", "step", *metrics]]


def generations_of(run: RunRecord) -> list[dict[str, Any]]:
    """The rows of a run's outputs."""
    return [
        {
            "run_id": run.run_id,
            "item": item,
            "dataset": text(row.get("dataset")),
            "instruction": row["instruction"],
            "output": row["output"],
            "length": len(row["output"]),
        }
        for item, row in enumerate(run.details.outputs())
    ]


def generations_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The outputs of all runs."""
    return pd.DataFrame(rows, columns=["run_id", "item", "dataset", "instruction", "output", "length"])


def preferences_frame(found: Mapping[str, Preferences]) -> pd.DataFrame:
    """The verdicts of all runs, one row each."""
    columns = {
        "run_id": [run_id for run_id, each in found.items() for _ in each.annotators],
        "item": [item for each in found.values() for item in range(len(each.annotators))],
        "annotator": [name for each in found.values() for name in each.annotators],
        "dataset": [name for each in found.values() for name in each.items.datasets],
        "instruction": [name for each in found.values() for name in each.items.instructions],
    }
    numbers = {name: _joined(found, name) for name in ("preference", "model_wins", "correct", "partial_credit")}
    lengths = {name: _joined(found, name).astype(np.int64) for name in ("length", "reference_length")}
    frame = pd.DataFrame(columns | numbers | lengths)
    return frame if len(frame) else frame.astype(object)


def by_item_frame(found: Mapping[str, Preferences], column: str) -> pd.DataFrame:
    """A column of numbers: instructions down (n-th occurrence apart), runs across; NaN where a run lacks one."""
    judged = {run_id: found[run_id] for run_id in sorted(found) if found[run_id].annotators}
    index, row_of = _rows_of(frozenset(each.items for each in judged.values()))
    rows = {items: [row_of[key] for key in items.keys] for items in {each.items for each in judged.values()}}
    values = np.full((len(index), len(judged)), np.nan)
    for place, each in enumerate(judged.values()):
        values[rows[each.items], place] = each.column(column)
    return pd.DataFrame(values, index, pd.Index(list(judged), name="run_id", dtype=str))


def clusters_of(found: Mapping[str, Preferences]) -> pd.Series:
    """The task family or source of each instruction: the first that a run names, "" if none does."""
    judged = [each.items for each in found.values() if each.annotators]
    index, row_of = _rows_of(frozenset(judged))
    named = [""] * len(index)
    for items in dict.fromkeys(judged):
        for key, dataset in zip(items.keys, items.datasets, strict=True):
            named[row_of[key]] = named[row_of[key]] or dataset or ""
    return pd.Series(named, index, dtype=str)


@lru_cache(maxsize=8)
def _rows_of(sets: frozenset[Items]) -> tuple[pd.MultiIndex, dict[tuple[str, int], int]]:
    """All instructions in their order, as the index of a frame and with their rows; one object for the same sets."""
    keys = sorted({key for items in sets for key in items.keys})
    texts, counts = [key[0] for key in keys], [key[1] for key in keys]
    index = pd.MultiIndex.from_arrays([pd.Index(texts, dtype=str), counts], names=["instruction", "occurrence"])
    return index, {key: row for row, key in enumerate(keys)}


def _joined(found: Mapping[str, Preferences], column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([np.empty(0), *(each.column(column) for each in found.values())])


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    named = {key: (config.get(key) or {}).get("name") for key in ("model", "dataset", "eval_set", "noise", "judge")}
    plain = {key: config.get(key) for key in ("alpha", "seed", "experiment")}
    return {key: (named | plain | {"group": (config.get("tracking") or {}).get("group")})[key] for key in IDENTITY}
