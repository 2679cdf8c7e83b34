"""Partial credit of the embedded data set: by hand for each kind, within its bounds, and 1 just where it is right."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.builtin import check, family_names, generate, partial_credit
from harness.data.builtin.core import FAMILIES
from harness.data.builtin.credit import edit_similarity, shared_content

ALL_FAMILIES = [*family_names("train"), *family_names("unseen")]
# A family, its gold answer, another answer, and the share of it that is right.
BY_HAND = [
    ("add", "781", "781.", 1),
    ("add", "781", "771", 2 / 3),
    ("add", "1204", "204", 3 / 4),  # a digit is missing
    ("add", "7", "70", 1 / 2),  # one is too many
    ("add", "42", "The answer is 42.", 0),  # no number, whatever it holds
    ("add", "42", "", 0),
    ("yes_no", "Yes", "No", 0),
    ("reverse", "eparg", "eprg", 4 / 5),
    ("reverse", "EPARG", "eparg", 1),
    ("choose", "train", "", 0),
    ("change_case", "Red Kite", "red kite", 6 / 8),
    ("change_case", "Red Kite", "Red  Kite", 1),
    ("sort_numbers", "1, 3, 9", "1, 9, 3", 1 / 3),
    ("sort_numbers", "1, 3, 9", "3, 9", 2 / 3),  # what follows a missing item is right still
    ("sort_numbers", "1, 3, 9", "1, 3, 9, 9", 3 / 4),
    ("sort_numbers", "1, 3, 9", "", 0),
    ("bullet_list", "- cat\n- dog", "* cat\n* fox", 1 / 2),
    ("bullet_list", "- cat\n- dog", "cat\ndog", 0),
    ("json_object", '{"name": "Mia", "age": 7}', '{"age": 7, "name": "Ann"}', 1 / 2),
    ("json_object", '{"name": "Mia", "age": 7}', '{"age": 7, "town": "Rome"}', 1 / 3),  # of name, age, town
    ("json_object", '{"name": "Mia", "age": 7}', '{"name": "Mia", "age": "7"}', 1 / 2),
    ("json_object", '{"name": "Mia", "age": 7}', '["Mia", 7]', 0),
    ("json_object", '{"name": "Mia", "age": 7}', "{}", 0),
    ("json_object", '{"name": "Mia", "age": 7}', '{"name": "Mia", "age": 7', 0),
    ("json_object", '{"name": "Mia", "age": 7}', "[" * 100_000, 0),
    ("capital", "The capital of Peru is Lima.", "The capital of Peru is Rome.", 4 / 5),  # articles do not count
    ("capital", "The capital of Peru is Lima.", "Rome is the capital of Peru.", 4 / 5),
    ("capital", "The capital of Peru is Lima.", "Lima", 1 / 5),
]  # fmt: skip


@pytest.mark.parametrize(("family", "gold", "answer", "share"), BY_HAND)
def test_partial_credit_by_hand(family, gold, answer, share):
    assert partial_credit(family, gold, answer) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [("kitten", "sitting", 1 - 3 / 7), ("", "", 1), ("a", "", 0), ((1, 2), (2, 1), 0), ("abc", "xabcx", 3 / 5)],
)
def test_edit_similarity_by_hand(first, second, similarity):
    assert edit_similarity(first, second) == pytest.approx(similarity, abs=1e-12)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_credit_is_1_for_right_answers_alone_and_falls_as_an_answer_is_cut(family):
    for item in generate("unseen" if FAMILIES[family].unseen else "train", 40, seed=3, families=[family]):
        assert partial_credit(family, item.output, f" {item.output}\n") == 1
        cut = [partial_credit(family, item.output, item.output[:end]) for end in range(len(item.output))]
        right = [check(family, item.output, item.output[:end]) for end in range(len(item.output))]
        assert [share == 1 for share in cut] == right
        assert all(0 <= share <= 1 for share in cut)
        assert cut[0] == 0


@st.composite
def pairs_of_answers(draw):
    """A family, and two of its gold answers after some edits: close enough for every amount of credit."""
    family = draw(st.sampled_from(ALL_FAMILIES))
    split = "unseen" if FAMILIES[family].unseen else "train"
    first, second = generate(split, 2, seed=draw(st.integers(0, 5)), families=[family])
    generator = Random(draw(st.integers(0, 10**6)))
    text = list(draw(st.sampled_from([first.output, second.output])))
    for _ in range(draw(st.integers(0, 3))):
        place = generator.randrange(len(text) + 1)
        text[place : place + generator.randrange(2)] = generator.choice(["", "x", " ", ",", "\n", "7", " is ", '"'])
    return family, first.output, "".join(text)


@given(pairs_of_answers())
def test_credit_is_between_0_and_1_symmetric_and_1_exactly_where_the_checker_accepts(answers):
    family, gold, answer = answers
    share = partial_credit(family, gold, answer)
    assert 0 <= share <= 1
    assert (share == 1) is check(family, gold, answer)
    if share:  # an answer without content cannot be a gold answer
        assert shared_content(FAMILIES[family].kind, answer, gold) == share


@given(st.sampled_from(ALL_FAMILIES), st.text(max_size=60))
def test_any_text_gets_credit(family, text):
    gold = generate("unseen" if FAMILIES[family].unseen else "train", 1, seed=11, families=[family])[0].output
    assert 0 <= partial_credit(family, gold, text) <= 1


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match="family='sums' is unknown"):
        partial_credit("sums", "1", "1")
