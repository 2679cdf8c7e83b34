"""The stage `generate` on several samples and several turns, and what judges and tables read of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.benchmark_files import MT_QUESTIONS, WILDBENCH, mt_files, write_rows
from support.commands import SMALL
from support.runs import folder_of

from analysis import load_runs
from harness.chat.talk import Talk
from harness.data import load_eval_items
from harness.generate.checks import prompts_of
from harness.judge.annotations import by_sample, read_annotations, read_model_outputs
from harness.models.tokenizer import load_tokenizer
from harness.pipeline.plan import job_of
from harness.pipeline.runner import execute
from harness.record import read_json

DRAWN = ("generate.temperature=1.5", "generate.samples=3", "generate.seed=7")
# Weights as good as random: after a few steps the model ends at once, and empty answers would prove nothing.
TALKS = ("dataset.prompt=vicuna_v1.1", "train.max_steps=1", "train.lr=1e-6")
Compose = Callable[..., Any]


def done(config: Any) -> Any:
    execute(config)
    return folder_of(config)


def test_samples_are_kept_judged_and_tabled(compose: Compose) -> None:
    config = compose(*SMALL, *DRAWN, "stages=[train,generate,judge]")
    folder = done(config)
    rows = read_model_outputs(folder / "model_outputs.json")
    assert len(rows) == 8
    assert all(len(row["samples"]) == 3 and row["output"] == row["samples"][0] for row in rows)
    assert any(len(set(row["samples"])) == 3 for row in rows)
    assert len(read_json(folder / "completions.json")) == 24
    judged = read_annotations(folder / "annotations.json")
    for row, asked in zip(judged, rows, strict=True):
        assert [each["output"] for each in row["samples"]] == asked["samples"]
        assert row["preference"] == pytest.approx(fmean(each["preference"] for each in row["samples"]))
    final = read_json(folder / "summary.json")["final"]
    assert final["judge/n_total"] == 8
    assert final["judge/win_rate"] == pytest.approx(100 * fmean(row["preference"] - 1 for row in judged))
    every = [row["output_2"] for sample in by_sample(judged) for row in sample]
    assert final["judge/avg_length"] == int(fmean(map(len, every)))
    frame = load_runs(folder.path.parent).preferences
    assert len(frame) == 8
    assert frame["preference"].tolist() == pytest.approx([row["preference"] for row in judged])


def test_a_seed_reproduces_twenty_answers_in_any_batch(compose: Compose) -> None:
    """Other runs, other batch sizes; the same seed gives the same 24 texts, another seed others."""
    texts = []
    for settings in (["generate.batch_size=1"], ["generate.batch_size=5"], ["generate.seed=8"]):
        folder = done(compose(*SMALL, *DRAWN, *settings, "stages=[train,generate]"))
        texts.append([row["samples"] for row in read_model_outputs(folder / "model_outputs.json")])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_greedy_runs_keep_their_identity_and_sampled_ones_have_their_own(compose: Compose) -> None:
    plain, seeded = job_of(compose()).run_id, job_of(compose("generate.seed=3")).run_id
    assert plain == seeded
    drawn = {job_of(compose("generate.temperature=0.7", f"generate.seed={seed}")).run_id for seed in (0, 1)}
    assert len({plain, *drawn}) == 3


def test_the_second_turn_is_asked_after_the_models_own_first_answer(compose: Compose, tmp_path: Path) -> None:
    """As somebody who talks to the model: the chat gives the same two answers."""
    config = compose(*SMALL, *mt_files(tmp_path), *TALKS, "stages=[train,generate,judge]", "generate.max_new_tokens=6")
    folder = done(config)
    rows = read_model_outputs(folder / "model_outputs.json")
    talk = Talk(folder.path)
    for number, question in enumerate(MT_QUESTIONS):
        talk.forget()
        first, second = ("".join(talk.ask(turn)).strip() for turn in question["turns"])
        assert first
        assert second
        assert rows[2 * number]["output"] == first
        assert rows[2 * number + 1]["output"] == f"Answer 1:\n{first}\n\nAnswer 2:\n{second}"
    judged = read_annotations(folder / "annotations.json")
    assert judged[1]["output_1"] == "Answer 1:\nOak.\n\nAnswer 2:\nRedwood."
    assert {"judge/win_rate/writing", "judge/win_rate/math"} <= set(read_json(folder / "summary.json")["final"])


def test_a_conversation_that_fills_the_limit_gets_no_second_answer(compose: Compose, tmp_path: Path) -> None:
    files = mt_files(tmp_path)
    wide = compose(*SMALL, *files, *TALKS, "stages=[train,generate]", "generate.max_new_tokens=40")
    prompts = prompts_of(load_eval_items(wide.eval_set), load_tokenizer(wide.model), wide.dataset.prompt, wide.generate)
    limit = max(map(len, prompts)) + 1  # with a short answer before it the longest question fits, with the model's not
    narrow = wide.model_copy(update={"generate": wide.generate.model_copy(update={"max_length": limit})})
    folder = done(narrow)
    ends = read_json(folder / "completions.json")
    rows = read_model_outputs(folder / "model_outputs.json")
    assert {"tokens": 0, "finish_reason": "length"} in ends
    assert any(row["output"].endswith("Answer 2:\n") for row in rows[1::2])
    assert "get no answer" in (folder / "log.txt").read_text()


def test_wildbench_conversations_are_asked_whole(compose: Compose, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "w.jsonl", WILDBENCH)
    config = compose(*SMALL, "eval_set=wildbench", f"eval_set.path={path}", *TALKS, "stages=[train,generate,judge]")
    folder = done(config)
    rows = read_annotations(folder / "annotations.json")
    assert [row["generator_1"] for row in rows] == ["gpt-4", "gpt-4"]
    assert rows[1]["instruction"].startswith("User: Name a sea.\n\nAssistant: The Baltic.")
    talk = Talk(folder.path)
    talk.messages = [{"role": "user", "content": "Name a sea."}, {"role": "assistant", "content": "The Baltic."}]
    assert rows[1]["output_2"]
    assert "".join(talk.ask("And another?")).strip() == rows[1]["output_2"]
