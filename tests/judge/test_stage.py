"""The stage `judge` on run folders: baselines, several judges on one run, figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.judge_server import completion, serve
from support.runs import folder_of

from harness.config import Config
from harness.context import Run
from harness.data import load_eval_items
from harness.data.builtin import partial_credit
from harness.generate.stage import output_rows
from harness.judge import stage
from harness.judge.annotations import read_annotations
from harness.pipeline.plan import job_of
from harness.pipeline.runner import _summary
from harness.record import write_json
from harness.record.identity import run_id
from harness.record.tracking import Tracker

SMALL = ("eval_set.heldout=4", "eval_set.unseen=2")
Compose = Callable[..., Config]


def prepare(config: Config, texts: Callable[[int, Any], str]) -> Run:
    """A run folder that has finished generating."""
    folder = folder_of(config)
    items = load_eval_items(config.eval_set)
    rows = output_rows(items, [texts(number, item) for number, item in enumerate(items)], run_id(config))
    write_json(folder / "model_outputs.json", rows)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    folder.complete("generate", "f", 1.0, "finished", {})
    return Run(job_of(config), Tracker(config, "x", folder))


def judge(config: Config, texts: Callable[[int, Any], str] = lambda _, item: item.reference) -> tuple[Run, Any]:
    run = prepare(config, texts)
    return run, stage.run(run)


def alternate(number: int, item: Any) -> str:
    return item.reference if number % 2 else "wrong"


def test_checker_verdicts_accuracy_and_labels(compose: Compose) -> None:
    """Right answers draw with the gold answer, wrong ones lose: 3 of 6 right is 25% wins and 50% accuracy."""
    run, result = judge(compose(*SMALL), alternate)
    rows = read_annotations(run.folder / "annotations.json")
    assert [row["preference"] for row in rows] == [1.0, 1.5] * 3
    assert {row["annotator"] for row in rows} == {"reference:checker"}
    assert result.metrics["judge/win_rate"] == 25.0
    assert result.metrics["judge/accuracy"] == 50.0
    by_split = [result.metrics[f"judge/accuracy/{split}"] for split in ("heldout", "unseen")]
    assert 4 * by_split[0] + 2 * by_split[1] == pytest.approx(6 * 50.0)
    assert result.metrics["judge/n_total"] == 6
    assert result.labels == {"judge_id": "reference:checker", "judge_baseline": "gold"}
    family = rows[0]["dataset"]
    own = [row["preference"] - 1 for row in rows if row["dataset"] == family]
    assert result.metrics[f"judge/win_rate/{family}"] == 100 * sum(own) / len(own)
    assert result.metrics["text/characters_mean"] == sum(len(row["output_2"]) for row in rows) / 6
    assert not (run.folder.path.parent / "verdicts.sqlite").exists()


def test_partial_credit_of_each_answer_and_its_means(compose: Compose) -> None:
    """Every second answer lacks its last character: right answers have 1, the others what the data set gives them."""
    run, result = judge(compose(*SMALL), lambda n, item: item.reference[: None if n % 2 else -2])
    rows = read_annotations(run.folder / "annotations.json")
    expected = [partial_credit(row["dataset"], row["output_1"], row["output_2"]) for row in rows]
    assert [row["partial_credit"] for row in rows] == expected
    assert expected[1::2] == [1.0] * 3
    assert 0 < sum(expected[::2]) < 3
    assert result.metrics["judge/partial_credit"] == pytest.approx(100 * sum(expected) / 6)
    assert result.metrics["judge/accuracy"] == 50.0
    by_split = [result.metrics[f"judge/partial_credit/{split}"] for split in ("heldout", "unseen")]
    assert 4 * by_split[0] + 2 * by_split[1] == pytest.approx(100 * sum(expected))
    assert "selection/partial_credit" in result.metrics


def test_a_run_against_another_run_wins_draws_and_loses(compose: Compose) -> None:
    base = compose("noise=none", *SMALL)
    prepare(base, lambda n, item: item.reference if n < 3 else "wrong")
    ours = compose("noise=symnoise", f"judge.baseline={run_id(base)}", *SMALL)
    run, result = judge(ours, alternate)
    rows = read_annotations(run.folder / "annotations.json")
    assert [row["preference"] for row in rows] == [1.0, 1.5, 1.0, 2.0, 1.5, 2.0]
    assert {row["generator_1"] for row in rows} == {run_id(base)}
    assert result.metrics["judge/accuracy"] == 50.0
    assert result.labels["judge_baseline"] == run_id(base)


def test_none_same_seed_is_found_by_its_settings(compose: Compose) -> None:
    for other in (["noise=none", "seed=1"], ["noise=none", "train.lr=0.1"], ["noise=neftune"]):
        prepare(compose(*other, *SMALL), lambda *_: "wrong")
    ours = compose("noise=symnoise", "judge.baseline=none_same_seed", *SMALL)
    run = prepare(ours, lambda *_: "wrong")
    with pytest.raises(ValueError, match=r"judge.baseline=none_same_seed: no run in .* noise=none, seed=0"):
        stage.run(run)
    base = prepare(compose("noise=none", "judge.store=elsewhere", *SMALL), lambda _, item: item.reference)
    assert stage.run(run).metrics["judge/win_rate"] == 0.0
    assert read_annotations(run.folder / "annotations.json")[0]["generator_1"] == base.run_id
    (base.folder / "stages.json").unlink()
    with pytest.raises(ValueError, match=f"the run {base.run_id} has not finished generating"):
        stage.run(run)


def test_a_file_as_baseline_must_answer_everything(compose: Compose, tmp_path: Path) -> None:
    config = compose(f"judge.baseline={tmp_path / 'other.json'}", *SMALL)
    rows = output_rows(load_eval_items(config.eval_set), ["same"] * 6, "other")
    with pytest.raises(ValueError, match=r"judge.baseline=.*other.json: expected reference, none_same_seed, a run in"):
        judge(config)
    write_json(tmp_path / "other.json", rows[:-1])
    with pytest.raises(ValueError, match="does not answer every instruction: 5 joined"):
        judge(config)
    write_json(tmp_path / "other.json", rows)
    _, result = judge(config)
    assert result.metrics["judge/win_rate"] == 100.0
    assert result.labels["judge_baseline"] == "other"


def test_outputs_of_another_set_are_refused(compose: Compose) -> None:
    run = prepare(compose(*SMALL), lambda *_: "x")
    other = compose("eval_set.seed=9", *SMALL)
    with pytest.raises(ValueError, match="answers other instructions than eval_set's: 0 joined, 6 only in outputs"):
        stage.run(Run(replace(run.job, config=other), run.tracker))


def test_two_judges_on_one_run_never_mix(compose: Compose) -> None:
    pytest.importorskip("httpx", reason="needs the extra `judge`")
    run, first = judge(compose(*SMALL), alternate)
    run.folder.complete("judge", "f", 0.0, "finished", first.metrics, first.labels)
    with serve(lambda *_: completion("A", model="fake-2026-01-01")) as server:
        config = compose("judge=endpoint", f"judge.base_url={server.url}", *SMALL)
        again = Run(replace(run.job, config=config), run.tracker)
        second = stage.run(again)
        calls = len(server.requests)
        assert calls == 6  # both orders of three pairs; three answers are the reference's own
        stage.run(again)
        assert len(server.requests) == calls
    kept = read_annotations(run.folder / "annotations.reference-checker.json")
    assert {row["annotator"] for row in kept} == {"reference:checker"}
    current = read_annotations(run.folder / "annotations.json")
    assert {row["annotator"] for row in current} == {second.labels["judge_id"]}
    assert second.labels["judge_id"].startswith("endpoint-")
    assert second.labels["judge_model"] == "fake-2026-01-01"
    assert not any("accuracy" in name or "partial_credit" in name for name in second.metrics)
    assert not any("correct" in row or "partial_credit" in row for row in current)
    run.folder.complete("judge", "g", 0.0, "finished", second.metrics, second.labels)
    summary = _summary(again)
    assert summary["judge_id"] == second.labels["judge_id"]
    assert "judge/accuracy" not in summary["final"]
    back = stage.run(run)
    assert back.metrics == first.metrics
    assert not (run.folder / "annotations.reference-checker.json").exists()
    assert (run.folder / f"annotations.{second.labels['judge_id']}.json").exists()


def test_another_baseline_keeps_the_earlier_file_under_both_names(compose: Compose) -> None:
    base = compose("noise=none", *SMALL)
    prepare(base, lambda *_: "wrong")
    run, _ = judge(compose(f"judge.baseline={run_id(base)}", *SMALL), alternate)
    stage.run(Run(replace(run.job, config=compose(*SMALL)), run.tracker))
    assert (run.folder / f"annotations.reference-checker.against-{run_id(base)}.json").exists()


def test_one_item_has_no_standard_error_and_no_crash(compose: Compose) -> None:
    _, result = judge(compose("eval_set.heldout=1", "eval_set.unseen=0"))
    assert result.metrics["judge/win_rate"] == 50.0
    assert "judge/standard_error" not in result.metrics
    json.dumps(result.metrics, allow_nan=False)


def released(shared_data: Path, tmp_path: Path, limit: int) -> list[str]:
    reference = shared_data / "alpaca_eval" / "reference_davinci003.json"
    return ["eval_set=alpaca_eval", f"eval_set.path={reference}", f"eval_set.limit={limit}", f"output_dir={tmp_path}/r"]


def test_805_free_text_rows_in_seconds_with_length_control(compose: Compose, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra `judge`")
    tables = shared_data / "alpaca_eval"
    outputs = json.loads((tables / "alpaca-7b" / "model_outputs.json").read_text(encoding="utf-8"))
    config = compose(
        *released(shared_data, tmp_path, 805),
        f"judge.difficulty={tables / 'instruction_difficulty_reconstructed.csv'}",
        f"judge.gamed={tables / 'df_gamed_reconstructed.csv'}",
    )
    by_text = {row["instruction"]: row["output"] for row in outputs}
    _, result = judge(config, lambda _, item: by_text[item.text])
    assert result.labels["judge_id"] == "reference:word_f1_proxy"
    assert 0 < result.metrics["judge/length_controlled_winrate"] < 50
    assert set(result.metrics) >= {"judge/lc_standard_error", "judge/lc_low", "judge/C", "judge/win_rate/koala"}
    assert result.metrics["judge/avg_length"] == 396
    assert "judge/partial_credit" not in result.metrics  # of free text there is a proxy's win rate alone
    assert result.metrics["text/measured"] + result.metrics["text/too_short"] == 805


def test_length_control_is_refused_for_other_instructions_before_judging(compose: Compose, shared_data: Path) -> None:
    tables = shared_data / "alpaca_eval"
    config = compose(
        *SMALL,
        f"judge.difficulty={tables / 'instruction_difficulty_reconstructed.csv'}",
        f"judge.gamed={tables / 'df_gamed_reconstructed.csv'}",
    )
    run = prepare(config, lambda *_: "x")
    with pytest.raises(ValueError, match="not among AlpacaEval's 805"):
        stage.run(run)
    assert not (run.folder / "annotations.json").exists()
