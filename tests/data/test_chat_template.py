"""What a chat template changes is refused, and what is trained on are the tokens of the whole conversation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.tokenizers_by_hand import CHATML_TEMPLATE, byte_tokenizer, metaspace_tokenizer

from harness.data import EvalItem, Example
from harness.data.batching import IGNORE_INDEX
from harness.data.tokenize import TokenizingRules, tokenize_examples, tokenize_prompts

# As DeepSeek-R1's: of an answer that has been given only what follows the reasoning.
CUTS = CHATML_TEMPLATE.replace("m['content'] +", "m['content'].split('</think>')[-1] +")
# As Qwen3's: an empty thought before the last answer, which the generation prompt lacks.
EMPTY_THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and '</think>' not in m['content'] and loop.last %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# As Gemma's.
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
DROPS_SYSTEM = CHATML_TEMPLATE.replace("for m in messages", "for m in messages if m['role'] != 'system'")


def chatml(template: str) -> Any:
    return byte_tokenizer("<|im_start|>", eos="<|im_end|>", template=template)


def encode(example: Example, tokenizer: Any, prompt: str = "chat_template", **rules: Any) -> Any:
    return tokenize_examples([example], tokenizer, rules=TokenizingRules(prompt, **rules))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "example", "message"),
    [
        (CUTS, Example("a", "", "<think>x</think>b", "f: row 3"), r"leaves out or cuts the answer \(exchange 1 of 1\)"),
        (
            NO_SYSTEM + CHATML_TEMPLATE,
            Example("a", "", "b", "f: row 3", "S"),
            "System role not supported; set dataset.",
        ),
        (DROPS_SYSTEM, Example("a", "", "b", "f: row 3", "Sys"), "leaves out the system message"),
        (EMPTY_THOUGHT, Example("a", "", "<think>x</think>b", "f: row 3"), "puts '' before the answer"),
        (EMPTY_THOUGHT, Example("a", "", "b", "f: row 3", more=(("c", "d"),)), "rewrites earlier messages"),
    ],
)
def test_what_a_template_changes_is_refused_or_dropped(template, example, message):
    with pytest.raises(ValueError, match=message) as caught:
        encode(example, chatml(template))
    assert str(caught.value).startswith("f: row 3: ")
    assert encode(example, chatml(template), template="drop").dropped["template"] == 1


def test_an_empty_thought_is_asked_with_and_not_learnt():
    tokenizer = chatml(EMPTY_THOUGHT)
    document = encode(Example("a", "", "b", "row 1"), tokenizer).documents[0]
    learnt = document.labels != IGNORE_INDEX
    assert tokenizer.decode(document.input_ids[learnt]) == "b<|im_end|>"
    asked = tokenize_prompts([EvalItem("a", "", "f", "r", "g")], tokenizer, "chat_template")[0]
    assert asked == document.input_ids[~learnt].tolist()
    assert tokenizer.decode(asked).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_refuses_the_system_role_takes_other_rows():
    tokenizer = chatml(NO_SYSTEM + CHATML_TEMPLATE)
    assert len(encode(Example("a", "", "b", "row 1"), tokenizer).documents) == 1


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("answer", ["fine", " fine", "\nfine", '"fine"'])
def test_training_tokens_are_the_templates_own_or_refused(scheme, answer):
    """Llama's kind of tokenizer puts a space before every text; one tokenised apart would gain it."""
    said = "m['role'] + ': ' + m['content'] + (eos_token if loop.index0 % 2 else ' ')"
    template = f"{{% for m in messages %}}{{{{ {said} }}}}{{% endfor %}}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = metaspace_tokenizer(scheme, template)
    example = Example("ask", "", answer, "row 1", more=(("again", answer),))
    messages = [
        {"role": role, "content": text}
        for pair in example.exchanges
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    encoded = encode(example, tokenizer, template="drop")
    assert len(encoded.documents) + encoded.dropped["template"] == 1
    assert all(each.input_ids.tolist() == whole for each in encoded.documents)


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_an_answer_gains_no_space_at_the_border(scheme):
    tokenizer = metaspace_tokenizer(scheme)
    document = encode(Example("ask", "", "fine", "row 1"), tokenizer, "alpaca").documents[0]
    learnt = document.input_ids[document.labels != IGNORE_INDEX]
    assert "▁" not in tokenizer.convert_ids_to_tokens(learnt.tolist())[0]
    talk = Example("ask", "", "fine", "row 1", more=(("again", "good"),))
    document = encode(talk, tokenizer, "vicuna_v1.1").documents[0]
    text = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    text += "detailed, and polite answers to the user's questions. USER: ask ASSISTANT: fine</s>"
    text += "USER: again ASSISTANT: good</s>"
    assert document.input_ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_answers_of_weight_0_bear_no_label():
    talk = Example("ab", "", "bad", "row 1", more=(("e", "good"),), unlearnt=(0,))
    tokenizer = byte_tokenizer()
    document = encode(talk, tokenizer, "vicuna_v1.1").documents[0]
    learnt = document.labels != IGNORE_INDEX
    assert tokenizer.decode(document.input_ids[learnt]) == " good</s>"
    same = encode(Example("ab", "", "bad", "row 1", more=(("e", "good"),)), tokenizer, "vicuna_v1.1").documents[0]
    assert np.array_equal(same.input_ids, document.input_ids)


def test_a_text_of_which_nothing_can_be_predicted_is_left_out():
    encoded = encode(Example("", "", "", "row 1"), byte_tokenizer(), "none")
    assert (encoded.documents, encoded.dropped["nothing to predict"]) == ([], 1)
