"""The stage `judge`: every answer against its reference, as an AlpacaEval annotations.json, and the win rates."""

from __future__ import annotations

import time
from typing import Any

from harness.context import Run, StageResult
from harness.data import EvalItem, load_eval_items
from harness.judge.reference import CHECKER, preference
from harness.metrics import win_rate
from harness.record import read_json, write_json


def run(run: Run) -> StageResult:
    """Write annotations.json.

    Raises:
        ValueError: model_outputs.json is missing or answers other instructions than the evaluation set's.
    """
    items = load_eval_items(run.config.eval_set)
    outputs = _outputs_of(run, items)
    with run.progress("judge", len(items), "answer") as progress:
        rows = []
        for item, output in zip(items, outputs, strict=True):
            rows.append(annotation(item, output))
            progress.update()
    write_json(run.folder / "annotations.json", rows)
    return StageResult(figures(rows))


def annotation(item: EvalItem, output: dict[str, Any]) -> dict[str, Any]:
    """One row of annotations.json: output_1 is the reference, output_2 the model's answer."""
    started = time.perf_counter()
    value, annotator = preference(item, output["output"])
    return {
        "instruction": item.text,
        "output_1": item.reference,
        "generator_1": item.generator,
        "dataset": item.family,
        "output_2": output["output"],
        "generator_2": output["generator"],
        "annotator": annotator,
        "preference": value,
        "price_per_example": 0.0,
        "time_per_example": round(time.perf_counter() - started, 6),
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """AlpacaEval's leaderboard numbers, and the accuracy (percent) where a checker judged."""
    numbers = win_rate([row["preference"] for row in rows], [len(row["output_2"]) for row in rows])
    checked = [row["preference"] == 1.5 for row in rows if row["annotator"] == CHECKER]
    accuracy = {"accuracy": 100.0 * sum(checked) / len(checked)} if checked else {}
    return {f"judge/{name}": value for name, value in {**numbers, **accuracy}.items()}


def _outputs_of(run: Run, items: list[EvalItem]) -> list[dict[str, Any]]:
    path = run.folder / "model_outputs.json"
    if not path.exists():
        raise ValueError(f"{path}: no outputs to judge; run the stage generate")
    outputs = read_json(path)
    for number, (item, output) in enumerate(zip(items, outputs, strict=False), start=1):
        if output["instruction"] != item.text:
            raise ValueError(f"{path}: row {number} answers another instruction: {output['instruction'][:60]!r}")
    if len(outputs) != len(items):
        raise ValueError(f"{path}: {len(outputs)} outputs for {len(items)} instructions")
    return list(outputs)
