"""Labels by hand: which tokens are learnt, where documents are cut, and that the end always is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support.tokenizers_by_hand import CHATML_TEMPLATE, byte_tokenizer

from harness.data import Example
from harness.data.batching import IGNORE_INDEX, micro_batches
from harness.data.tokenize import TokenizingRules, tokenize_examples

BYTES = byte_tokenizer()
TALK = Example("ab", "", "cd", "row 1", system="S", more=(("e", "fg"), ("h", "i")))

NOTHING_DROPPED = {"template": 0, "overlong": 0, "long_prompts": 0, "nothing to predict": 0}


def pieces(document, tokenizer) -> list[tuple[str, bool]]:
    """The document as texts, each with whether it is learnt."""
    learnt = document.labels != IGNORE_INDEX
    assert (document.labels[learnt] == document.input_ids[learnt]).all()
    borders = [0, *(np.flatnonzero(np.diff(learnt)) + 1).tolist(), len(document)]
    return [(tokenizer.decode(document.input_ids[start:end]), bool(learnt[start])) for start, end in pairwise(borders)]


def encode(example, tokenizer=BYTES, **rules):
    return tokenize_examples([example], tokenizer, rules=TokenizingRules(**rules))


def test_every_answer_of_a_conversation_is_learnt_with_its_end_and_nothing_else():
    document = encode(TALK, prompt="vicuna_v1.1").documents[0]
    assert pieces(document, BYTES) == [
        ("S USER: ab ASSISTANT:", False),
        (" cd</s>", True),
        ("USER: e ASSISTANT:", False),
        (" fg</s>", True),
        ("USER: h ASSISTANT:", False),
        (" i</s>", True),
    ]
    # 21 tokens given, 4 learnt, 18, 4, 18, 3: one a byte, one for </s>.
    assert np.flatnonzero(document.labels != IGNORE_INDEX).tolist() == [*range(21, 25), *range(43, 47), *range(65, 68)]


def test_the_first_exchange_of_a_document():
    for example, answer in ((TALK, " cd</s>"), (Example("ab", "", "cd", "row 1"), " cd</s>")):
        prompt, learnt = encode(example, prompt="vicuna_v1.1").documents[0].first_exchange()
        assert BYTES.decode(prompt).endswith("USER: ab ASSISTANT:")
        assert BYTES.decode(learnt) == answer


def test_plain_text_is_learnt_from_its_first_token_on():
    assert pieces(encode(Example("", "", "cd", "row 1"), prompt="none").documents[0], BYTES) == [("cd</s>", True)]
    asked = encode(Example("ab", "", "cd", "row 1"), prompt="none").documents[0]
    assert pieces(asked, BYTES) == [("ab\n", False), ("cd</s>", True)]


def test_chatml_labels():
    tokenizer = byte_tokenizer("<|im_start|>", eos="<|im_end|>", template=CHATML_TEMPLATE)
    expected = [
        ("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n", False),
        ("cd<|im_end|>", True),
        ("\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\n", False),
        ("fg<|im_end|>", True),
        ("\n<|im_start|>user\nh<|im_end|>\n<|im_start|>assistant\n", False),
        ("i<|im_end|>", True),
    ]
    for prompt in ("chatml", "chat_template"):
        assert pieces(encode(TALK, tokenizer, prompt=prompt).documents[0], tokenizer) == expected


def test_the_end_is_learnt_where_padding_is_the_end_token():
    """pad == eos: were labels masked by token id, no model would ever learn to stop."""
    assert BYTES.pad_token_id == BYTES.eos_token_id
    documents = tokenize_examples([Example("a", "", "b", "row 1"), Example("a", "", "bcdef", "row 2")], BYTES).documents
    batch = micro_batches(documents, layout="padded")[0]
    for row in range(2):
        assert (batch.targets[row] == BYTES.eos_token_id).sum() == 1
        assert batch.attention_mask[row].sum() == batch.segment_lengths[row][0]


def test_the_start_token_stands_once_in_front_and_no_end_behind_a_prompt():
    tokenizer = byte_tokenizer(bos="<s>")
    text = tokenizer.decode(encode(TALK, tokenizer, prompt="vicuna_v1.1").documents[0].input_ids)
    assert text.startswith("<s>S USER: ab")
    assert text.count("<s>") == 1


def test_a_merge_across_the_border_is_undone():
    tokenizer = byte_tokenizer(merges=[(":", "x")])
    encoded = encode(Example("a", "", "xy", "row 1"), tokenizer)
    assert encoded.resplit == 1
    prompt, answer = pieces(encoded.documents[0], tokenizer)
    assert prompt[0].endswith("Response:")
    assert answer == ("xy</s>", True)
    assert encode(Example("a", "", "zy", "row 1"), tokenizer).resplit == 0


def test_an_end_token_inside_an_answer_is_counted():
    """Scraped text holds it; the model would learn to stop there."""
    chatml = byte_tokenizer("<|im_start|>", eos="<|im_end|>", template=CHATML_TEMPLATE)
    for tokenizer, prompt in ((BYTES, "alpaca"), (BYTES, "vicuna_v1.1"), (chatml, "chatml"), (chatml, "chat_template")):
        end = tokenizer.eos_token
        for output, expected in ((f"b{end}c", 1), (f"bc{end}", 1), ("bc", 0)):
            encoded = encode(Example("a", "", output, "row 1"), tokenizer, prompt=prompt)
            assert encoded.inner_ends == expected
            assert pieces(encoded.documents[0], tokenizer)[-1][0].strip() == output + end


def test_a_cut_document_is_a_prefix_and_its_end_is_not_learnt():
    whole = encode(Example("a", "", "b" * 300, "row 1"), max_length=1000).documents[0]
    cut = encode(Example("a", "", "b" * 300, "row 1"), max_length=200)
    assert (cut.truncated, len(cut.documents[0])) == (1, 200)
    assert cut.documents[0].input_ids.tolist() == whole.input_ids[:200].tolist()
    assert whole.labels[-1] == BYTES.eos_token_id
    assert BYTES.eos_token_id not in cut.documents[0].labels
    assert encode(Example("a", "", "b" * 300, "row 1"), max_length=len(whole)).truncated == 0


def test_overlong_examples_are_dropped_or_refused_on_request():
    example = Example("a", "", "b" * 300, "data.json: row 7")
    dropped = encode(example, max_length=200, overlong="drop")
    assert (dropped.documents, dropped.dropped) == ([], {**NOTHING_DROPPED, "overlong": 1})
    with pytest.raises(ValueError, match=r"data.json: row 7: the example has \d+ tokens, dataset.max_length=200"):
        encode(example, max_length=200, overlong="error")


def test_a_prompt_that_fills_the_length_is_refused_or_dropped():
    example = Example("a" * 300, "", "b", "data.json: row 7")
    with pytest.raises(ValueError, match=r"data.json: row 7: the prompt has \d+ tokens.*clean.long_prompts=drop"):
        encode(example, max_length=200)
    assert encode(example, max_length=200, long_prompts="drop").dropped == {**NOTHING_DROPPED, "long_prompts": 1}


def test_a_hundred_thousand_characters():
    for text in ("x" * 100_000, "word " * 20_000):
        encoded = encode(Example("a", "", text, "row 1"))
        assert (encoded.truncated, len(encoded.documents[0])) == (1, 512)


def test_dropped_examples_are_made_up_for_until_there_are_none_left():
    examples = [Example("a", "", "b" * (300 if i % 2 else 3), f"row {i}") for i in range(10)]
    rules = TokenizingRules(max_length=200, overlong="drop")
    encoded = tokenize_examples(examples, BYTES, rules=rules, wanted=3)
    assert encoded.sources == [0, 2, 4]
    assert [each.index for each in encoded.documents] == [0, 1, 2]
    assert tokenize_examples(examples, BYTES, rules=rules, wanted=9).sources == [0, 2, 4, 6, 8]
