"""The run list as data for the page's scripts: settings that differ, final numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from analysis.sources.record import RunRecord
from analysis.sources.runs import Runs
from analysis.sources.select import content_settings, judge_of
from analysis.study.comparable import SECTIONS, UNSET, settings_of
from analysis.study.metrics import TOGETHER, metric
from analysis.study.rows import sort_labels
from harness.record.escape import escape_controls

# Shown by default if a run has them; all other numbers are one click away.
_METRICS = (*TOGETHER, "judge/accuracy", "judge/partial_credit", "eval/loss", "train/loss", "train/seconds")


def ordered(runs: Runs) -> list[RunRecord]:
    """Finished runs first, each status ordered by noise, alpha and seed."""
    return [*sorted(runs.records, key=_order), *sorted(runs.left_out, key=lambda run: (run.status, _order(run)))]


def run_list(runs: Runs, records: Sequence[RunRecord]) -> dict[str, Any]:
    """The page's data on each run, in the order of `records`.

    settings: keys that are not the same in all runs, `values` aligned with them. columns: names of the settings that
    tell finished runs apart, and their value for each run. url: of a run read from W&B.
    metrics: name, header, unit, decimals, better, shown;
    `numbers` aligned with them, null where a run has none.
    """
    flat = [content_settings(run.config) for run in records]
    keys = sorted({key for each in flat for key in each})
    varying = [key for key in keys if len({str(each.get(key, UNSET)) for each in flat}) > 1]
    columns, labels = _labels(runs, records)
    known = {name for run in records for name in run.final}
    names = [name for name in _METRICS if name in known] + sorted(known - set(_METRICS))
    judges = [json.dumps(judge_of(run), sort_keys=True, default=str) for run in records]
    return {
        "settings": varying,
        "columns": columns,
        "metrics": [_metric(name) for name in names],
        "runs": [
            {
                "id": escape_controls(run.run_id),
                "status": run.status,
                "values": [escape_controls(each.get(key, UNSET)) for key in varying],
                "labels": label,
                "numbers": [_number(run.final.get(name)) for name in names],
                "url": run.origin if run.origin.startswith(("https://", "http://")) else None,
                "judge": list(dict.fromkeys(judges)).index(judge),
            }
            for run, each, label, judge in zip(records, flat, labels, judges, strict=True)
        ],
    }


def _labels(runs: Runs, records: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    """Settings with more than one value among the finished runs, always noise, alpha and seed; a value per run."""
    settings = settings_of(runs)
    outside = [str(key) for key in settings if "." not in str(key) or str(key).split(".")[0] not in SECTIONS]
    free = [key for key in outside if settings[key].nunique() > 1 and key not in ("status", "noise", "alpha", "seed")]
    columns = ["noise", "alpha", "seed", *sorted(free, key=lambda key: (key not in SECTIONS, key))]
    known = settings[~settings.index.duplicated()].to_dict("index")
    labels = [[escape_controls(_label(run, known.get(run.run_id, {}), key)) for key in columns] for run in records]
    return columns, labels


def _label(run: RunRecord, known: dict[Any, Any], key: str) -> str:
    """The settings of a run without a result (such as a running one), from its config alone."""
    if key in known:
        return str(known[key])
    flat = content_settings(run.config)
    return str(flat.get(f"{key}.name" if key in SECTIONS else key, UNSET))


def _metric(name: str) -> dict[str, Any]:
    known = metric(name)
    return {
        "name": name,
        "header": known.header,
        "unit": known.unit,
        "decimals": known.decimals,
        "better": known.better,
        "shown": name in _METRICS,
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _order(run: RunRecord) -> tuple[Any, ...]:
    names = [str((run.config.get(key) or {}).get("name")) for key in ("model", "dataset", "noise")]
    return sort_labels([*names, str(run.config.get("alpha", "")), str(run.config.get("seed", "")), run.run_id])
