"""The stage `judge` on run folders: baselines, several judges on one run, figures, and the verdict store beneath."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.judge_server import completion, serve
from support.runs import folder_of

from harness.config import Config, JudgeConfig
from harness.context import Run
from harness.data import load_eval_items
from harness.data.builtin import partial_credit
from harness.generate.stage import output_rows
from harness.judge import stage
from harness.judge.annotations import read_annotations
from harness.judge.ask import ask, merge
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.judge.judges.reference import from_scores, word_f1
from harness.judge.judges.registry import check_judge
from harness.judge.store import VerdictStore
from harness.pipeline.plan import job_of
from harness.pipeline.runner import _summary
from harness.record import write_json
from harness.record.identity import run_id
from harness.record.tracking import Tracker

SMALL = ("eval_set.heldout=4", "eval_set.unseen=2")
Compose = Callable[..., Config]


class CountingJudge(NoBudget):
    """Prefers what is shown second, 35 verdicts at a time; counts what it was asked; may break off."""

    free = False
    orders: tuple[bool, ...] | None = (False, True)

    def __init__(self, name: str = "counting", dies_at: int | None = None) -> None:
        self.identity = Identity(name)
        self.asked = 0
        self._dies_at = dies_at

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        for start in range(0, len(comparisons), 35):
            if self.asked == self._dies_at:
                raise ConnectionError("gone")
            batch = [(n, comparisons[n]) for n in range(start, min(start + 35, len(comparisons)))]
            self.asked += len(batch)
            yield [(n, Verdict(comparison.preference_of_second(1.0), calls=1, usd=0.5)) for n, comparison in batch]


def pairs(count: int) -> list[Comparison]:
    return [Comparison(f"Question {n}", f"reference {n}", f"answer {n}") for n in range(count)]


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


def test_a_crash_at_call_700_of_805_costs_nothing(tmp_path: Path) -> None:
    first = CountingJudge(dies_at=700)
    first.orders = None
    with pytest.raises(ConnectionError):
        ask(first, pairs(805), tmp_path / "v.sqlite")
    second = CountingJudge()
    second.orders = None
    verdicts = ask(second, pairs(805), tmp_path / "v.sqlite")
    assert (first.asked, second.asked) == (700, 105)
    assert len(verdicts) == 805
    assert {verdict.usd for verdict in verdicts} == {0.5}


def test_a_killed_process_loses_nothing_that_it_saved(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from harness.judge.base import Comparison, Identity, Verdict
from harness.judge.judges.registry import check_judge
from harness.judge.store import VerdictStore
with VerdictStore(Path({str(tmp_path / "v.sqlite")!r})) as store:
    for n in range(5):
        store.save(Identity("j"), [(Comparison(f"q{{n}}", "a", "b"), Verdict(1.0, calls=1))])
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 9
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(Identity("j")).calls == 5


def test_processes_share_a_store(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from harness.judge.base import Comparison, Identity, Verdict
from harness.judge.judges.registry import check_judge
from harness.judge.store import VerdictStore
with VerdictStore(Path(sys.argv[1])) as store:
    for n in range(20):
        store.save(Identity("j"), [(Comparison(f"q{n}", sys.argv[2], "b"), Verdict(1.0, calls=1))])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "v.sqlite")]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(Identity("j")).calls == 60


@pytest.mark.parametrize(
    "changed",
    [
        Comparison("Q", "a", "b"),
        Comparison("q ", "a", "b"),
        Comparison("q", "b", "a"),
        Comparison("q", "a", "b", switched=True),
        Comparison("q", "a", "b", gold="g"),
        Comparison("q", "ab", ""),
    ],
)
def test_the_store_tells_comparisons_and_judges_apart(changed: Comparison, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.save(Identity("j"), [(Comparison("q", "a", "b"), Verdict(1.25, "A", 0.1, 2.0, 1, "m"))])
        assert store.load(Identity("j"), [Comparison("q", "a", "b")]) == {0: Verdict(1.25, "A", 0.1, 2.0, 1, "m")}
        assert store.load(Identity("j"), [changed]) == {}
        for other in (Identity("j", "m"), Identity("j", "", "p"), Identity("j", "", "", {"t": 1})):
            assert store.load(other, [Comparison("q", "a", "b")]) == {}


def test_an_unparsed_verdict_is_asked_again_and_its_cost_stays(tmp_path: Path) -> None:
    asked, judge_id = Comparison("q", "a", "b"), Identity("j")
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.save(judge_id, [(asked, Verdict(None, "eh", 0.25, 1.0, 3))])
        assert store.load(judge_id, [asked]) == {}
        store.save(judge_id, [(asked, Verdict(2.0, "B", 0.25, 1.0, 1))])
        assert store.load(judge_id, [asked]) == {0: Verdict(2.0, "B", 0.5, 2.0, 4)}
        assert store.spent(judge_id) == (4, 0.5)


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_text("hello " * 500)
    with pytest.raises(ValueError, match=r"judge.store=.*v.sqlite: not a store of verdicts"):
        VerdictStore(tmp_path / "v.sqlite")


def test_who_judged_is_in_the_store(tmp_path: Path) -> None:
    ask(CountingJudge(), pairs(1), tmp_path / "v.sqlite")
    with sqlite3.connect(tmp_path / "v.sqlite") as connection:
        rows = connection.execute("SELECT name FROM judges").fetchall()
    connection.close()
    assert rows == [("counting",)]


def test_both_orders_are_averaged_and_one_unparsed_order_leaves_no_verdict() -> None:
    whole = merge([Verdict(1.5, "A", 0.1, 1.0, 1, "m"), Verdict(2.0, "B", 0.2, 2.0, 2, "m")])
    assert (whole.preference, whole.raw, whole.calls, whole.served) == (1.75, "A | B", 3, "m")
    assert whole.usd == pytest.approx(0.3)
    assert merge([Verdict(1.0), Verdict(None)]).preference is None


def test_identical_outputs_draw_unasked(tmp_path: Path) -> None:
    counting = CountingJudge()
    verdicts = ask(counting, [Comparison("q", "same", "same"), *pairs(1)], tmp_path / "v.sqlite")
    assert counting.asked == 2
    assert [verdict.preference for verdict in verdicts] == [1.5, 1.5]


def test_memory_is_flat_in_the_number_of_rows(tmp_path: Path) -> None:
    """What asking adds per row: a stored verdict, a key and a question; 10 kB would be the texts kept again."""
    many = [Comparison(f"Question {n}", "r" * 10_000, "a" * 10_000) for n in range(300)]
    judge_once = CountingJudge()
    judge_once.orders = None
    tracemalloc.start()
    ask(judge_once, many, tmp_path / "v.sqlite")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 3_000


@pytest.mark.parametrize(
    ("scores", "preference"), [((1.0, 1.0), 1.5), ((1.0, 0.0), 1.0), ((0.0, 1.0), 2.0), ((1.0, 0.5), 1.25)]
)
def test_preference_from_scores(scores: tuple[float, float], preference: float) -> None:
    assert from_scores(*scores) == preference


def test_word_f1_by_hand() -> None:
    assert word_f1("The cat, the mat", "the cat sat") == pytest.approx(2 * 2 / 7)  # common: the, cat
    assert word_f1("", "") == 1.0
    assert word_f1("", "x") == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "reference", "model": "x"}, "judge.model is not a key of judge.kind=reference"),
        ({"kind": "reward"}, "judge.model is missing; judge.kind=reward needs it"),
        ({"gamed": "x.csv"}, "give both judge.difficulty and judge.gamed, or neither"),
        ({"kind": "local_lm", "model": "m", "order": "both", "labels": ["A", "B"], "prompt": "?"}, "does not contain"),
    ],
)
def test_keys_belong_to_kinds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeConfig(**{"name": "j", **settings})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge=openai"], r"judge.api_key_env=OPENAI_API_KEY: no such environment variable"),
        (["judge=alpaca_eval", "judge.python=no/python"], "run `make alpaca-eval`"),
        (["judge.difficulty=no.csv", "judge.gamed=no.csv"], r"judge.difficulty=no.csv: no such file"),
        (["judge=similarity", "judge.model=package:no_such/model"], "the package no_such is not installed"),
    ],
)
def test_what_is_missing_is_known_before_training(
    overrides: list[str], message: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=message):
        check_judge(compose(*overrides).judge)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("judge.base_url=http://me:secret@host/v1", "without user, password or query"),
        ("judge.labels=[A,A]", "expected two different labels"),
        ("judge.parse=x", "expected a regular expression with one group"),
        ("judge.api_key_env=sk-123", "string should match pattern"),
        ("judge.order=random", "input should be 'alpaca_eval' or 'both'"),
    ],
)
def test_settings_of_an_endpoint_are_checked(override: str, message: str, compose: Compose) -> None:
    with pytest.raises(ValueError, match=message):
        compose("judge=endpoint", override)
