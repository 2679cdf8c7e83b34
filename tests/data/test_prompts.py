"""Templates are what their sources say, to the character, and evaluation asks exactly what training showed."""

from __future__ import annotations

import pytest
from support.tokenizers_by_hand import CHATML_TEMPLATE, INST_TEMPLATE, byte_tokenizer
from support.tokenizers_by_hand import TOKENIZER as TINY

from harness.data import EvalItem, Example
from harness.data.batching import IGNORE_INDEX
from harness.data.prompts import check_prompt, render_prompt, segments
from harness.data.tokenize import TokenizingRules, tokenize_examples, tokenize_prompts

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CHAT = [("Hello!", "Hi!"), ("How are you?", "I'm fine.")]
CHATML = byte_tokenizer("<|im_start|>", eos="<|im_end|>", template=CHATML_TEMPLATE)


def text_of(prompt, tokenizer, system="", exchanges=CHAT) -> str:
    """The whole conversation as one text, end-of-text tokens included."""
    parts = segments(prompt, exchanges, system, tokenizer)
    return "".join(each.context + each.answer + tokenizer.eos_token * each.ends for each in parts)


def test_vicuna_is_the_text_of_fastchats_documentation():
    expected = f"{SYSTEM} USER: Hello! ASSISTANT: Hi!</s>USER: How are you? ASSISTANT: I'm fine.</s>"
    assert text_of("vicuna_v1.1", byte_tokenizer()) == expected
    assert text_of("vicuna_v1.1", byte_tokenizer(), "Be brief.").startswith("Be brief. USER: Hello! ASSISTANT: Hi!")


def test_chatml_is_the_text_of_openais_documentation():
    expected = (
        "<|im_start|>system\nYou are ChatGPT.<|im_end|>\n"
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n"
        "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\nI'm fine.<|im_end|>"
    )
    assert text_of("chatml", CHATML, "You are ChatGPT.") == expected
    # The tokenizer's own template, written independently, says the same.
    assert text_of("chat_template", CHATML, "You are ChatGPT.") == expected


def test_a_model_with_another_end_token_learns_that_one_too():
    tokenizer = byte_tokenizer("<|im_start|>", "<|im_end|>", eos="<|endoftext|>", template=CHATML_TEMPLATE)
    assert text_of("chatml", tokenizer).endswith("I'm fine.<|im_end|><|endoftext|>")
    assert text_of("chatml", tokenizer).count("<|endoftext|>") == 1
    assert text_of("chat_template", tokenizer).endswith("I'm fine.<|im_end|>\n<|endoftext|>")


def test_a_template_with_its_own_start_and_end_tokens():
    tokenizer = byte_tokenizer(eos="</s>", bos="<s>", template=INST_TEMPLATE)
    expected = "<s>[INST] Hello! [/INST] Hi! </s><s>[INST] How are you? [/INST] I'm fine. </s>"
    assert text_of("chat_template", tokenizer, exchanges=[(" Hello!\n", "Hi!"), CHAT[1]]) == expected
    document = tokenize_examples(
        [Example("Hello!", "", "Hi!", "row 1")], tokenizer, rules=TokenizingRules("chat_template")
    ).documents[0]
    assert document.input_ids.tolist().count(tokenizer.bos_token_id) == 1


def test_braces_and_template_words_of_users_are_left_alone():
    nasty = "{user} {input} {assistant} {system} {{role}}"
    for prompt in ("vicuna_v1.1", "chatml", "chat_template"):
        assert text_of(prompt, CHATML, exchanges=[(nasty, nasty)]).count(nasty) == 2
    assert render_prompt("alpaca", nasty, nasty, CHATML).count(nasty) == 2


@pytest.mark.parametrize("further", ["", "of the sum 1 + 1"])
@pytest.mark.parametrize(
    ("prompt", "tokenizer"),
    [
        ("alpaca", TINY),
        ("vicuna_v1.1", TINY),
        ("alpaca", CHATML),
        ("chatml", CHATML),
        ("chat_template", CHATML),
        ("none", TINY),
    ],
)
def test_evaluation_asks_what_training_showed(prompt, tokenizer, further):
    trained = tokenize_examples(
        [Example("Give the result", further, "two", "row 1")], tokenizer, rules=TokenizingRules(prompt)
    ).documents[0]
    asked = tokenize_prompts([EvalItem("Give the result", further, "f", "r", "g")], tokenizer, prompt)[0]
    first = int((trained.labels != IGNORE_INDEX).argmax())
    assert trained.input_ids[:first].tolist() == asked
    assert (trained.labels[first:] != IGNORE_INDEX).all()


def test_the_papers_evaluation_adds_one_line_end_to_the_prompt():
    items = [EvalItem("Say hi", "", "f", "r", "g")]
    plain, papers = (TINY.decode(tokenize_prompts(items, TINY, "alpaca", newline)[0]) for newline in (False, True))
    assert plain.endswith("### Response:")
    assert papers == plain + "\n"


def test_prompts_that_a_tokenizer_cannot_express_are_refused():
    with pytest.raises(ValueError, match="chat_template: the tokenizer has no chat template"):
        check_prompt("chat_template", TINY)
    with pytest.raises(ValueError, match=r"chatml: the tokenizer has no token <\|im_start\|>"):
        check_prompt("chatml", TINY)
    check_prompt("chatml", CHATML)


def test_a_template_that_rewrites_the_past_is_refused_for_conversations_only():
    forgetful = "{{ messages[-2:] | map(attribute='content') | join('|') }}{% if add_generation_prompt %}|{% endif %}"
    tokenizer = byte_tokenizer(template=forgetful)
    assert segments("chat_template", CHAT[:1], "", tokenizer)[0].context == "Hello!|"
    with pytest.raises(ValueError, match=r"rewrites earlier messages \(exchange 2 of 2\); set dataset.turns=first"):
        segments("chat_template", CHAT, "", tokenizer)


def test_wrong_names_and_combinations_are_named(compose):
    with pytest.raises(ValueError, match=r"dataset.prompt='vicuna': input should be 'alpaca', 'vicuna_v1.1', 'chatml'"):
        compose("dataset.prompt=vicuna")
    with pytest.raises(ValueError, match=r"alpaca_evaluation_newline needs dataset.prompt=alpaca"):
        compose("dataset.prompt=chatml", "generate.prompt=alpaca_evaluation_newline")


def test_a_template_with_the_date_asks_tomorrow_what_was_learnt_today():
    template = "Today is {{ strftime_now('%d %b %Y') }}. " + CHATML_TEMPLATE
    tokenizer = byte_tokenizer("<|im_start|>", "<|im_end|>", eos="<|endoftext|>", template=template)
    assert text_of("chat_template", tokenizer).startswith("Today is 26 Jul 2024. <|im_start|>")


@pytest.mark.parametrize(
    "date",
    [
        "{% set form = '%d %b %Y' %}{{ strftime_now(form) }}",
        "{{ strftime_now('%d ' ~ '%b %Y') }}",
        "{{ strftime_now(format='%d %b %Y') }}",
        "{% set today = strftime_now %}{{ today('%d %b %Y') }}",
    ],
)
def test_a_date_that_cannot_be_fixed_is_refused(date):
    template = f"Today is {date}. {CHATML_TEMPLATE}"
    tokenizer = byte_tokenizer("<|im_start|>", "<|im_end|>", eos="<|endoftext|>", template=template)
    with pytest.raises(ValueError, match="asks for the date in a form that cannot be fixed") as caught:
        text_of("chat_template", tokenizer)
    assert "\n" not in str(caught.value)


def test_whether_there_is_a_date_may_be_asked():
    date = '{% if strftime_now is defined %}{% set day = strftime_now("%d %b %Y") %}{{ day }}{% endif %}'
    template = f"Today is {date}. {CHATML_TEMPLATE}"
    tokenizer = byte_tokenizer("<|im_start|>", "<|im_end|>", eos="<|endoftext|>", template=template)
    assert text_of("chat_template", tokenizer).startswith("Today is 26 Jul 2024. <|im_start|>")
