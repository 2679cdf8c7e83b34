"""A run's model/ asked by transformers alone gives the answers of the evaluation."""

from __future__ import annotations

import json

import pytest
import torch
from support.commands import SMALL
from support.runs import folder_of
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from harness.data import load_eval_items
from harness.export import export
from harness.pipeline.runner import execute
from harness.record import read_json

VICUNA = ["dataset.prompt=vicuna_v1.1"]
LORA = ["train.method=lora", "train.lora.rank=4", "train.lr=0.01"]


@pytest.mark.parametrize("settings", [[], VICUNA, LORA], ids=["alpaca", "vicuna", "lora"])
def test_transformers_answers_as_the_evaluation_did(compose, tmp_path, settings):
    config = compose(*SMALL, *settings, "stages=[train,generate]", "generate.max_new_tokens=9")
    execute(config)
    run = folder_of(config).path
    folder = run / "model"
    if "train.method=lora" in settings:
        folder = tmp_path / "merged"
        export(run, folder, merge=True)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    for item, row in zip(load_eval_items(config.eval_set), read_json(run / "model_outputs.json"), strict=True):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": item.instruction, "input": item.input}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            ids = model.generate(**asked)[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == row["output"]


def test_generation_config_is_the_evaluations_decoding(compose):
    config = compose(*SMALL, "stages=[train]", "generate=paper", "generate.max_new_tokens=2048")
    execute(config)
    folder = folder_of(config).path / "model"
    written = json.loads((folder / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert written == {
        "do_sample": False,
        "repetition_penalty": 1.2,
        "max_length": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    loaded = GenerationConfig.from_pretrained(folder)
    assert (loaded.do_sample, loaded.repetition_penalty, loaded.max_length) == (False, 1.2, 2048)
    loaded.save_pretrained(folder)  # transformers refuses to save settings that contradict each other
