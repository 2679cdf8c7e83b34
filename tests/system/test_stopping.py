"""The end of an answer is learnt: a trained tiny model says what it was taught and stops."""

from __future__ import annotations

import json

import pytest
from support.commands import SMALL
from support.runs import folder_of

from harness.models.load import load_model
from harness.models.save import save_model
from harness.models.tokenizer import load_tokenizer
from harness.pipeline.runner import execute

ROWS = {"Name a colour.": "red", "Name a fruit.": "a ripe pear", "Count.": "one two three", "Greet.": "hello"}


@pytest.fixture
def lesson(tmp_path):
    data, questions = tmp_path / "data.json", tmp_path / "questions.json"
    pairs = [{"instruction": question, "output": answer} for question, answer in ROWS.items()]
    data.write_text(json.dumps([{**pair, "input": ""} for pair in pairs]))
    questions.write_text(json.dumps([{**pair, "dataset": "lesson", "generator": "teacher"} for pair in pairs]))
    return [
        *("dataset=alpaca", f"dataset.path={data}", "dataset.heldout=0", "eval_set=alpaca_eval"),
        *(f"eval_set.path={questions}", "generate.max_new_tokens=40", "train.checkpoint_every=0", "train.batch_size=4"),
        *("train.max_steps=150", "train.lr=0.01", "train.log_every=50", "noise=none"),
        "generate.repetition_penalty=1.0",
    ]


@pytest.mark.parametrize("pad", ["of its own", "is the end"])
def test_a_trained_model_stops_after_its_answer(pad, lesson, compose, tmp_path):
    small = [each for each in SMALL if each.startswith("model")]
    if pad == "is the end":  # as SmolLM2's: labels masked by token id would hide the end from training
        tiny = compose(*small).model
        tokenizer = load_tokenizer(tiny)
        save_model(load_model(tiny, 0), tokenizer, tmp_path / "base")
        settings = json.loads((tmp_path / "base" / "tokenizer_config.json").read_text())
        settings["pad_token"] = settings["eos_token"]
        (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(settings))
        small = ["model=local", f"model.path={tmp_path / 'base'}"]
    config = compose(*small, *lesson)
    if pad == "is the end":
        assert load_tokenizer(config.model).pad_token_id == load_tokenizer(config.model).eos_token_id
    execute(config)
    folder = folder_of(config)
    answers = {row["instruction"]: row["output"] for row in json.loads((folder / "model_outputs.json").read_text())}
    assert answers == ROWS
    finishes = [row["finish_reason"] for row in json.loads((folder / "completions.json").read_text())]
    assert finishes == ["stop"] * len(ROWS)
