"""The tokenizer that ships with the project loads quietly, keeps every text, and fits the built-in data."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tokenizers_by_hand import TOKENIZER
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from experiments.tiny_base.tokenizer import FOLDER, SPECIAL_TOKENS, main, train, training_texts
from harness.data.builtin import generate
from harness.data.prompts import alpaca


def plain_ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_special_tokens_and_sizes():
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2]
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)
    assert len(TOKENIZER) == 1024
    assert TOKENIZER.model_max_length == 512


def test_bos_is_put_before_and_nothing_after():
    assert TOKENIZER("Add 3.")["input_ids"] == [1, *plain_ids("Add 3.")]


def test_loads_quietly_by_both_classes(caplog, capsys):
    for cls in (AutoTokenizer, PreTrainedTokenizerFast):
        assert cls.from_pretrained(FOLDER)("x 1")["input_ids"] == TOKENIZER("x 1")["input_ids"]
    assert caplog.text == ""
    assert "".join(capsys.readouterr()) == ""


@given(st.text().filter(lambda text: not re.search("<(pad|bos|eos)>", text)))
def test_any_text_survives(text):
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["1234567890", "7 and 42", "-3.14", "a1b2"])
def test_every_digit_is_a_token(text):
    tokens = [TOKENIZER.decode([token]) for token in plain_ids(text)]
    assert [token for token in tokens if re.search("[0-9]", token)] == re.findall("[0-9]", text)


def test_the_template_takes_few_tokens():
    """One token for each of its 18 words and 6 marks, 3 for line ends, and <bos>."""
    assert len(TOKENIZER(alpaca(""))["input_ids"]) == 28


def test_builtin_prompts_are_short_and_end_where_the_answer_begins():
    items = generate("heldout", 900, seed=0)
    prompts = [TOKENIZER(alpaca(item.instruction, item.input))["input_ids"] for item in items]
    wholes = [TOKENIZER(alpaca(item.instruction, item.input) + item.output)["input_ids"] for item in items]
    assert all(whole[: len(prompt)] == prompt for prompt, whole in zip(prompts, wholes, strict=True))
    assert max(map(len, wholes)) < 160  # measured 130; far from the 512 of the model
    assert sum(map(len, prompts)) / len(prompts) < 66  # measured 61


def test_training_is_reproducible(tmp_path, monkeypatch, capsys):
    one, two = (train(training_texts(300, 600)).to_str() for _ in range(2))
    assert one == two
    monkeypatch.setattr("sys.argv", ["make_tokenizer", str(tmp_path)])
    main()
    assert "1024 tokens written" in capsys.readouterr().out
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["bos_token"] == "<bos>"
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 1024
