"""IFEval and IFBench: checks by hand, the figures of a run, and what is refused before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.benchmark_files import IFEVAL, write_rows
from support.commands import SMALL
from support.runs import folder_of

from harness.data import load_eval_items
from harness.judge.base import Comparison
from harness.judge.checks import check
from harness.judge.judges.instructions import InstructionsJudge, check_instructions, loose_forms
from harness.pipeline.runner import execute
from harness.record import read_json


def verdict(answer: str, *checks: tuple[str, dict[str, Any]]) -> Any:
    asked = Comparison("Do it.", "", answer, checks=checks)
    ((_, found),) = next(InstructionsJudge().verdicts([asked]))
    return found, json.loads(found.raw)


@pytest.mark.parametrize(
    ("answer", "checks", "strict", "loose"),
    [
        ("blue it is", [("punctuation:no_comma", {}), ("keywords:existence", {"keywords": ["blue"]})], [1, 1], [1, 1]),
        ("red, then", [("punctuation:no_comma", {}), ("keywords:existence", {"keywords": ["blue"]})], [0, 0], [0, 0]),
        # Only without its first line: loose alone.
        ("Sure, here:\nblue", [("punctuation:no_comma", {})], [0], [1]),
        ("<<A title>>\ntext", [("detectable_format:title", {})], [1], [1]),
        ("ALL CAPITALS ARE HERE NOW AND THIS IS ENGLISH", [("change_case:english_capital", {})], [1], [1]),
        ("Das ist ein deutscher Satz über das Wetter.", [("language:response_language", {"language": "de"})], [1], [1]),
        ("whale shark shark", [("count:keywords_multiple", IFEVAL[2]["kwargs"][0])], [0], [0]),
        ("", [("punctuation:no_comma", {})], [0], [0]),  # nothing said follows nothing
    ],
)
def test_checks_by_hand(answer: str, checks: Any, strict: list[int], loose: list[int]) -> None:
    given = [(name, {key: value for key, value in kwargs.items() if value is not None}) for name, kwargs in checks]
    found, raw = verdict(answer, *given)
    assert (raw["strict"], raw["loose"]) == ([bool(each) for each in strict], [bool(each) for each in loose])
    assert found.preference == (2.0 if all(strict) else 1.0)
    assert found.correct is all(strict)


def test_the_eight_forms() -> None:
    assert loose_forms("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]


def test_a_runs_figures(compose: Any, tmp_path: Path) -> None:
    """Answers put in by hand: of three prompts one is followed wholly; of four instructions two."""
    path = write_rows(tmp_path / "rows.jsonl", IFEVAL)
    config = compose(*SMALL, "eval_set=ifeval", f"eval_set.path={path}", "judge=instructions", "train.max_steps=1")
    execute(config.model_copy(update={"stages": ["train", "generate"]}))
    folder = folder_of(config)
    rows = read_json(folder / "model_outputs.json")
    assert [row["instruction"] for row in rows] == [row["prompt"] for row in IFEVAL]
    answers = ["red it is", "<<A title>>", "nothing"]
    (folder / "model_outputs.json").write_text(
        json.dumps([{**row, "output": text} for row, text in zip(rows, answers, strict=True)])
    )
    execute(config.model_copy(update={"stages": ["judge"]}))
    final = read_json(folder / "summary.json")["final"]
    assert final["judge/prompt_strict"] == pytest.approx(100 / 3)
    assert final["judge/instruction_strict"] == pytest.approx(50)
    assert final["judge/win_rate"] == pytest.approx(final["judge/prompt_strict"])
    assert final["judge/accuracy"] == pytest.approx(final["judge/prompt_strict"])
    assert final["judge/prompt_loose"] == pytest.approx(100 / 3)
    assert final["judge/check_errors"] == 0
    assert read_json(folder / "summary.json")["judge_id"].startswith("instructions:if_verifiable-")


def items_of(tmp_path: Path, **changes: Any) -> Any:
    from harness.config import EvalSetConfig

    path = write_rows(tmp_path / "rows.jsonl", [{**IFEVAL[1], **changes}])
    return load_eval_items(EvalSetConfig.model_validate({"name": "x", "format": "ifeval", "path": path}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction_id_list": ["no:such"]}, r"question 1: instruction 'no:such': there is no checker of that name"),
        ({"kwargs": [{"colour": 1}]}, r"instruction 'detectable_format:title' does not take .*colour"),
    ],
)
def test_what_cannot_be_checked_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        check_instructions(items_of(tmp_path, **changes))


def test_data_that_are_not_here_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    for cached in ("_get_sentence_tokenizer",):
        from if_verifiable.ifeval import instructions_util

        getattr(instructions_util, cached).cache_clear()
    asked = items_of(
        tmp_path,
        instruction_id_list=["length_constraints:number_sentences"],
        kwargs=[{"num_sentences": 2, "relation": "at least"}],
    )
    with pytest.raises(ValueError, match=r"number_sentences'.*punkt.*python -m nltk.downloader"):
        check_instructions(asked)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (
            ["judge=reference"],
            r"eval_set=ifeval: has no answers to compare with, so judge=reference has nothing to judge",
        ),
        (["judge=instructions", "eval_set=builtin"], r"question 1 has no instructions to check"),
    ],
)
def test_judge_and_questions_must_fit(judge: list[str], message: str, compose: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", IFEVAL)
    overrides = ["eval_set=ifeval", f"eval_set.path={path}", *judge]
    if "eval_set=builtin" in judge:
        overrides = judge
    with pytest.raises(ValueError, match=message):
        check(compose(*overrides))
