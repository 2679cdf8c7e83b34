"""The tables of a run in a tracker: final numbers, answers beside references and verdicts, what probes measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness.metrics.preferences import win_fractions
from harness.record.files import read_json
from harness.record.folder import RunFolder

Row = dict[str, Any]

# Every final number of the run: a row each, "metric" and "value".
METRICS = "metrics"
# One row per instruction, for people; "annotations" holds the verdicts as AlpacaEval's file does.
GENERATIONS, ANNOTATIONS = "generations", "annotations"
_PROBES = ("smoothness", "predictions", "memorisation")


def tables_of(folder: RunFolder, final: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Rows by the table's name; no table without rows."""
    outputs, annotations = _rows(folder, "model_outputs.json"), _rows(folder, "annotations.json")
    tables = {
        METRICS: [{"metric": name, "value": value} for name, value in sorted(final.items())],
        GENERATIONS: generations(outputs, annotations),
        ANNOTATIONS: annotations,
    }
    if (folder / "probes.json").exists():
        probes = read_json(folder / "probes.json")
        tables |= {f"probe_{name}": probes[name] for name in _PROBES}
    return {name: rows for name, rows in tables.items() if rows}


def generations(outputs: Sequence[Row], annotations: Sequence[Row]) -> list[Row]:
    """Each instruction with its answer, the reference's, the verdict (win, loss, draw) and the answer's characters.

    Where a checker judged, `correct` says whether it found the answer right, and `partial_credit` how much of it. What
    was not judged has no verdict.
    """
    verdicts: dict[str, list[tuple[Row, float]]] = defaultdict(list)
    shares = win_fractions([row.get("preference") for row in annotations])
    for row, share in zip(annotations, shares, strict=True):
        verdicts[row["instruction"]].append((row, float(share)))
    found = []
    for row in outputs:
        waiting = verdicts[row["instruction"]]
        judged, share = waiting.pop(0) if waiting else ({}, math.nan)
        entry = {"prompt": row["instruction"], "answer": row["output"], "reference": judged.get("output_1")}
        entry |= {"verdict": _verdict(share), "length": len(row["output"]), "dataset": row.get("dataset")}
        found.append(entry | {name: judged[name] for name in ("correct", "partial_credit") if name in judged})
    return found


def _verdict(share: float) -> str | None:
    """In words; None where nothing was understood."""
    if math.isnan(share):
        return None
    return "draw" if share == 0.5 else "win" if share > 0.5 else "loss"


def _rows(folder: RunFolder, name: str) -> list[Row]:
    path = folder / name
    return list(read_json(path)) if path.exists() else []
