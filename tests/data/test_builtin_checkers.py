"""The checkers of the embedded data set: strict on content, lenient on harmless form, safe on any text."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.builtin import check, family_names, generate
from harness.data.builtin.core import FAMILIES

ALL_FAMILIES = [*family_names("train"), *family_names("unseen")]


def items_of(family, count=120):
    return generate("unseen" if FAMILIES[family].unseen else "train", count, seed=11, families=[family])


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_gold_passes_in_every_harmless_form(family):
    for item in items_of(family):
        bare = item.output.removesuffix(".")
        fenced = f"```\n{item.output}\n```"
        for answer in (item.output, f"  {item.output}\n", bare, f"{bare}.", f"\n\n{bare} .\n", fenced):
            assert check(family, item.output, answer), (item.output, answer)
        case_matters = FAMILIES[family].kind in ("exact", "json")
        assert case_matters or check(family, item.output, item.output.upper())


def _corruptions(gold, rng):
    """Wrong answers that look like the gold one: a character changed or lost, more said, the answer twice."""
    # Articles are left alone: "a" for "the" changes nothing that is asked.
    words = list(re.finditer(r"[0-9A-Za-z]+", gold))
    word = rng.choice([each for each in words if each[0].lower() not in ("a", "an", "the")] or words)
    place = rng.randrange(word.start(), word.end())
    other = rng.choice([char for char in "xqjw7" if char != gold[place].lower()])
    yield gold[:place] + other + gold[place + 1 :]
    yield gold[:place] + gold[place + 1 :]
    yield from ("", " ", ".", f"{gold} {gold}", f"{gold}\n{gold}", f"{gold} x", f"x {gold}", f"{gold}, 7")
    yield from (f"not {gold}", f"-{gold}" if gold[0].isdigit() else f"un{gold}")


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_corrupted_answers_fail(family):
    rng = Random(f"corrupt {family}")
    for item, other in pairwise(items_of(family)):
        for answer in _corruptions(item.output, rng):
            assert not check(family, item.output, answer), (item.output, answer)
        if other.output.casefold() != item.output.casefold():
            assert not check(family, item.output, other.output), (item.output, other.output)


@pytest.mark.parametrize(
    ("family", "gold", "answer", "right"),
    [
        ("add", "1204", "1,204", True),
        ("add", "42", "042.", True),
        ("add", "42", '"42"', True),
        ("add", "42", "42.0", False),
        ("add", "42", "The answer is 42.", False),
        ("add", "42", "٤٢", False),
        ("add", "42", "9" * 5000, False),
        ("yes_no", "Yes", "yes", True),
        ("yes_no", "Yes", "Yes, no", False),
        ("change_case", "Red Kite", "Red  Kite.", True),
        ("change_case", "Red Kite", "red kite", False),
        ("sort_numbers", "1, 3, 9", "1,3,9", True),
        ("sort_numbers", "1, 3, 9", "1 3 9", True),
        ("sort_numbers", "1, 3, 9", "1\n3\n9", True),
        ("sort_numbers", "1, 3, 9", "1, 3, and 9", True),
        ("sort_numbers", "1, 3, 9", "1 and 3 and 9.", True),
        ("sort_numbers", "1, 3, 9", "1, 3, 9,", False),
        ("sort_numbers", "1, 3, 9", "139", False),
        ("sort_numbers", "1, 3, 9", "1, 9, 3", False),
        ("spell", "c a t", "cat", False),
        ("bullet_list", "- cat\n- dog", "* cat\n\n* dog", True),
        ("bullet_list", "- cat\n- dog", "- Cat.\n- Dog.", True),
        ("bullet_list", "- cat\n- dog", "cat\ndog", False),
        ("bullet_list", "- cat\n- dog", "1. cat\n2. dog", False),
        ("bullet_list", "1. cat\n2. dog", "1) cat\n2) dog", True),
        ("bullet_list", "1. cat\n2. dog", "1. cat 2. dog", False),
        ("json_object", '{"name": "Mia", "age": 7}', '{ "age":7,\n"name" : "Mia" }', True),
        ("json_object", '{"name": "Mia", "age": 7}', '```json\n{"age": 7, "name": "Mia"}\n```', True),
        ("json_object", '{"name": "Mia", "age": 7}', '{"name": "Mia", "age": "7"}', False),
        ("json_object", '{"name": "Mia", "age": 7}', '{"name": "mia", "age": 7}', False),
        ("json_object", '{"name": "Mia", "age": 7}', '{"age": 9, "age": 7, "name": "Mia"}', False),
        ("json_object", '{"name": "Mia", "age": 7}', "{'name': 'Mia', 'age': 7}", False),
        ("json_object", '{"count": 7}', '{"count": NaN}', False),
        ("json_object", '{"count": 7}', '{"count": ' + "9" * 5000 + "}", False),
        ("json_object", '{"count": 7}', "[" * 100_000, False),
        ("json_object", '{"count": 7}', "", False),
        ("capital", "The capital of Peru is Lima.", "Lima is the capital of Peru", True),
        ("capital", "The capital of Peru is Lima.", "the capital of peru is lima!", True),
        ("capital", "The capital of Peru is Lima.", "Lima", False),
        ("capital", "The capital of Peru is Lima.", "The capital of Lima is Peru.", False),
        ("capital", "The capital of Peru is Lima.", "The capital of Peru is not Lima.", False),
        ("story_sum", "Ivy has 104 bags.", "Ivy has 104 bags is Ivy has 104 bags.", False),
        ("show_working", "20 - 5 = 15, so the answer is 15.", "20-5=15 so the answer is 15", True),
        ("show_working", "20 - 5 = 15, so the answer is 15.", "20 + 5 = 15, so the answer is 15.", False),
    ],
)  # fmt: skip
def test_checkers_on_hand_made_answers(family, gold, answer, right):
    assert check(family, gold, answer) is right


@given(st.sampled_from(ALL_FAMILIES), st.text(max_size=60))
def test_any_text_can_be_checked(family, text):
    """Whatever a model writes gets a verdict, and random text is not right."""
    gold = items_of(family, 1)[0].output
    assert check(family, gold, text) in (True, False)
    assert not check(family, gold, text + "\nand more")


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match="family='sums' is unknown"):
        check("sums", "1", "1")
