"""What a saved model's chat template renders are the tokens of training, message by message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.tokenizers_by_hand import CHATML_TEMPLATE, TOKENIZER, byte_tokenizer

from harness.config import CleaningConfig, DatasetConfig
from harness.data import EvalItem, Example, load_dataset
from harness.data.saved_template import saved_template, with_template
from harness.data.tokenize import TokenizingRules, tokenize_examples, tokenize_prompts

THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML = {"extra": ["<|im_start|>"], "eos": "<|im_end|>"}
OTHER_END = {"extra": ["<|im_start|>", "<|im_end|>"]}
CASES = [
    ("alpaca", {}),
    ("alpaca", {"bos": "<s>"}),
    ("vicuna_v1.1", {}),
    ("vicuna_v1.1", {"bos": "<s>"}),
    ("none", {}),
    ("chatml", CHATML),
    ("chatml", OTHER_END),
    ("chat_template", {**CHATML, "template": CHATML_TEMPLATE}),
    ("chat_template", {**CHATML, "template": THOUGHT}),
]
NASTY = "it's {user} {{ x }} {% if %} \\n \\ \"é\n\n'"
TALKS = [
    Example("ask", "", "answer", "row 1"),
    Example(NASTY, "", NASTY, "row 1"),
    Example("ask", NASTY, "answer", "row 1"),
    Example("ask", "", "one", "row 1", more=(("again", "two"), (NASTY, "three"))),
    Example("ask", "", "one", "row 1", system="Be short.", more=(("again", "two"),)),
]


def tokenizer_of(settings: dict[str, Any]) -> Any:
    extra, *rest = settings.get("extra", []), {key: value for key, value in settings.items() if key != "extra"}
    return byte_tokenizer(*extra, **rest[0])


def messages_of(example: Example) -> list[dict[str, str]]:
    found = [{"role": "system", "content": example.system}] if example.system else []
    first = {"content": example.instruction, "input": example.input}
    for number, (user, assistant) in enumerate(example.exchanges):
        found.append({"role": "user", **(first if number == 0 else {"content": user})})
        found.append({"role": "assistant", "content": assistant})
    return found


def fits(example: Example, prompt: str) -> bool:
    return prompt not in ("alpaca", "none") or not (example.more or example.system)


@pytest.mark.parametrize(("prompt", "settings"), CASES)
def test_whole_conversations_and_prompts_are_those_of_training(prompt, settings):
    own = tokenizer_of(settings)
    saved = with_template(tokenizer_of(settings), prompt)
    for example in (each for each in TALKS if fits(each, prompt)):
        if prompt == "chat_template" and example.input:
            continue  # a template of others knows no input
        trained = (
            tokenize_examples([example], own, rules=TokenizingRules(prompt, 10_000)).documents[0].input_ids.tolist()
        )
        whole = saved.apply_chat_template(messages_of(example), tokenize=True, return_dict=False)
        # The template's own line end behind the last end token is not learnt; where chatml's end is not the
        # tokenizer's, that one is.
        end = own.eos_token_id
        assert whole[: len(trained)] == trained or (whole[: len(trained) - 1] == trained[:-1] and trained[-1] == end)
        if not example.system:
            item = EvalItem(example.instruction, example.input, "f", "r", "g")
            asked = saved.apply_chat_template(
                messages_of(example)[:1], tokenize=True, return_dict=False, add_generation_prompt=True
            )
            assert asked == tokenize_prompts([item], own, prompt)[0]
            assert trained[: len(asked)] == asked


def test_a_template_is_saved_once_however_often():
    for prompt, settings in CASES:
        once = with_template(tokenizer_of(settings), prompt)
        assert saved_template(prompt, once) == once.chat_template


@pytest.mark.parametrize("prompt", ["alpaca", "none"])
def test_a_system_message_is_refused_where_training_refuses_it(prompt):
    saved = with_template(byte_tokenizer(), prompt)
    with pytest.raises(Exception, match="trained without system messages"):
        saved.apply_chat_template([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])


@pytest.mark.parametrize(("file", "prompt"), [("alpaca_999.json", "alpaca"), ("sharegpt_300.json", "vicuna_v1.1")])
def test_two_hundred_real_rows(shared_data: Path, file, prompt):
    rules = {"roles": "repair", "empty": "drop", "duplicate_ids": "drop", "damaged": "drop"}
    clean = CleaningConfig.model_validate(rules)
    config = DatasetConfig(name="local", path=str(shared_data / file), prompt=prompt, heldout=0, clean=clean)
    examples = load_dataset(config).examples[:200]
    saved = with_template(json_copy(TOKENIZER), prompt)
    assert len(examples) > 190
    assert prompt == "alpaca" or sum(len(example.exchanges) > 1 for example in examples) > 100
    encoded = tokenize_examples(examples, TOKENIZER, rules=TokenizingRules(prompt, 10**6))
    for example, document in zip(examples, encoded.documents, strict=True):
        text = saved.apply_chat_template(messages_of(example), tokenize=False)
        assert saved.apply_chat_template(messages_of(example), tokenize=True, return_dict=False) == list(
            document.input_ids
        )
        assert text == TOKENIZER.decode(document.input_ids, clean_up_tokenization_spaces=False)
        asked = saved.apply_chat_template(
            messages_of(example)[: 2 if example.system else 1],
            tokenize=True,
            return_dict=False,
            add_generation_prompt=True,
        )
        assert document.input_ids[: len(asked)].tolist() == asked


def json_copy(tokenizer: Any) -> Any:
    """Another object with the same tokens."""
    backend = type(tokenizer.backend_tokenizer).from_str(json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())))
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return type(tokenizer)(tokenizer_object=backend, **special)
