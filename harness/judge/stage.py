"""The stage `judge`: every answer against the baseline's, as an AlpacaEval annotations.json, and the win rates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import fmean

from harness.context import Run, StageResult
from harness.data import EvalItem, load_eval_items
from harness.judge.annotations import Row, by_sample, read_annotations, read_model_outputs, write_annotations
from harness.judge.ask import ask
from harness.judge.base import Comparison, Judge, Verdict
from harness.judge.baseline import answers_of_baseline, baseline_rows
from harness.judge.judges.local_model import whereabouts
from harness.judge.judges.registry import load_judge
from harness.judge.results import (
    MARKS,
    check_length_control,
    checked_figures,
    judge_figures,
    marked_figures,
    text_figures,
)
from harness.judge.store import store_path
from harness.record import RunFolder, read_json

CURRENT = "annotations.json"


def run(run: Run) -> StageResult:
    """Write annotations.json; an earlier judge's file is kept next to it under that judge's name.

    Raises:
        ValueError: model_outputs.json or the baseline is missing or answers other instructions than the
            evaluation set's; the judge refused or stopped.
    """
    config = run.config.judge
    items = load_eval_items(run.config.eval_set)
    outputs = _outputs_of(run.folder)
    pairs = baseline_rows(run.job, items, outputs)
    generators = [row["generator_1"] for row in pairs]
    check_length_control(config, [row["instruction"] for row in pairs], generators, answers_of_baseline(run.config))
    judge = load_judge(config, all(item.checkable for item in items), run.folder.path)
    run.folder.log(f"judge: {config.kind}, {whereabouts(config)}")
    asked = [(row, item, text) for row, item in zip(pairs, items, strict=True) for text in _samples(row)]
    comparisons = [_comparison(*each) for each in asked]
    with run.progress("judge", len(comparisons) * len(judge.orders or (False,)), "verdict") as progress:
        verdicts = ask(judge, comparisons, store_path(run.config), progress.update, config.max_unparsed)
    each = iter(verdicts)
    rows = [annotation(row, [next(each) for _ in _samples(row)], judge) for row in pairs]
    _keep_earlier(run.folder, rows, items[0].generator)
    write_annotations(run.folder / CURRENT, rows)
    texts = [text for row in pairs for text in _samples(row)]
    figures = judge_figures(rows, config) | marked_figures(rows, [item.groups for item in items])
    if all(item.checks for item in items) and config.kind == "instructions":
        figures |= checked_figures([row for sample in by_sample(rows) for row in sample])
    figures |= text_figures(texts, _finish_reasons(run.folder), run.config.dataset.name)
    return StageResult(figures, labels=_labels(judge, rows, verdicts, run.folder), files=[CURRENT])


def annotation(row: Row, verdicts: Sequence[Verdict], judge: Judge) -> Row:
    """One row of annotations.json; `correct` and `partial_credit` only where a checker judged.

    Of several samples preference and marks are means, and `samples` has each answer with its verdict.
    """
    known = [verdict.preference for verdict in verdicts if verdict.preference is not None]
    several = {}
    if "samples" in row:
        pairs = zip(row["samples"], verdicts, strict=True)
        several = {"samples": [{"output": text, **_said(verdict)} for text, verdict in pairs]}
    return {
        **row,
        **several,
        "annotator": judge.identity.id,
        "preference": fmean(known) if known else None,
        "price_per_example": sum(verdict.usd for verdict in verdicts),
        "time_per_example": round(sum(verdict.seconds for verdict in verdicts), 6),
        "raw_completion": verdicts[0].raw or None,
        **_marks(verdicts),
    }


def _said(verdict: Verdict) -> Row:
    return {"preference": verdict.preference, "raw_completion": verdict.raw or None, **_marks([verdict])}


def _marks(verdicts: Sequence[Verdict]) -> Row:
    """What a checker says of the answers to one instruction; of several the mean."""
    found: Row = {}
    for name in MARKS:
        each = [mark for verdict in verdicts if (mark := getattr(verdict, name)) is not None]
        if each:
            found[name] = each[0] if len(each) == 1 else fmean(each)
    return found


def _samples(row: Row) -> Sequence[str]:
    samples: Sequence[str] = row.get("samples", (row["output_2"],))
    return samples


def _comparison(row: Row, item: EvalItem, text: str) -> Comparison:
    return Comparison(item.text, row["output_1"], text, item.reference, item.family, item.checkable, checks=item.checks)


def _labels(judge: Judge, rows: Sequence[Row], verdicts: Sequence[Verdict], folder: RunFolder) -> dict[str, str]:
    """Who judged, for summary.json; several model snapshots behind one name are also logged."""
    served = sorted({verdict.served for verdict in verdicts if verdict.served})
    if len(served) > 1:
        folder.log(f"judge: several model snapshots answered under one name: {', '.join(served)}; pin judge.model")
    model = ", ".join(served) or judge.identity.model
    named = {"judge_model": model} if model else {}
    return {"judge_id": judge.identity.id, **named, "judge_baseline": rows[0]["generator_1"]}


def _keep_earlier(folder: RunFolder, rows: Sequence[Row], reference: str) -> None:
    """Rename the annotations of another judge or baseline; annotations.json holds only the current ones."""
    ours = kept_name(rows[0], reference)
    if (folder / CURRENT).exists():
        theirs = kept_name(read_annotations(folder / CURRENT)[0], reference)
        if theirs != ours:
            os.replace(folder / CURRENT, folder / theirs)
    (folder / ours).unlink(missing_ok=True)


def kept_name(row: Row, reference: str) -> str:
    """annotations.<judge_id>.json, with the baseline's name unless that is the evaluation set's own answers."""
    against = "" if row["generator_1"] == reference else f".against-{row['generator_1']}"
    plain = f"{row['annotator']}{against}".replace("/", "-").replace(":", "-")
    return f"annotations.{plain}.json"


def _outputs_of(folder: RunFolder) -> list[Row]:
    path = folder / "model_outputs.json"
    if not path.exists():
        raise ValueError(f"{path}: no outputs to judge; run the stage generate")
    return read_model_outputs(path)


def _finish_reasons(folder: RunFolder) -> list[str] | None:
    path = folder / "completions.json"
    return [row["finish_reason"] for row in read_json(path)] if path.exists() else None
