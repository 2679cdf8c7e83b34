"""The corpus for base models states facts and train problems only, in varied and correct sentences."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

from harness.data.builtin import family_names, generate, split_of
from harness.data.builtin.core import FAMILIES, LEVELS
from harness.data.builtin.corpus import keyed_sentences, sentences


def test_corpus_states_only_problems_of_the_train_split():
    keys = {key for key, _ in islice(keyed_sentences(3), 20_000)}
    assert {split_of(key) for key in keys if key} == {"train"}
    skills = {key.partition(":")[0] for key in keys if key}
    assert len(skills) >= 20


def test_corpus_does_not_hold_the_statement_of_a_heldout_problem():
    """Looks for every statement of drawn held-out problems; finds those of train problems, so it can fail."""
    corpus, rng = set(islice(sentences(4), 60_000)), Random("statements")
    found = {"train": 0, "heldout": 0}
    for name in family_names("train"):
        for _ in range(400):
            problem = FAMILIES[name].draw(rng, rng.choice(LEVELS))
            for statement in FAMILIES[name].statements:
                found[split_of(problem.key)] += statement.format(answer=problem.answer, **problem.slots) in corpus
    assert found["heldout"] == 0
    assert found["train"] > 50


def test_sums_in_the_corpus_are_right_and_not_held_out():
    """Reads the text itself, so it also covers the single facts, which have no key."""
    seen = 0
    for text in islice(sentences(5), 40_000):
        for a, sign, b, c in re.findall(r"([0-9]+) (\+|-|plus|minus) ([0-9]+) (?:=|is) ([0-9]+)", text):
            plus = sign in ("+", "plus")
            assert int(c) == (int(a) + int(b) if plus else int(a) - int(b)), text
            high, low = sorted((int(a), int(b)), reverse=True)
            if high >= 20 and low >= 2:  # smaller ones are no family's problem
                assert split_of(f"{'add' if plus else 'subtract'}:{high},{low}") == "train", text
            seen += 1
    assert seen > 1000


def test_no_family_asks_for_a_sum_that_the_corpus_states_as_a_fact():
    for family in ("add", "subtract"):
        items = generate("train", 1000, seed=0, families=[family])
        assert min(int(item.key.partition(":")[2].split(",")[0]) for item in items) >= 20


def test_corpus_is_varied():
    texts = list(islice(sentences(6), 5000))
    assert len(set(texts)) > 4000
    assert not any("{" in text and '{"' not in text for text in texts)
