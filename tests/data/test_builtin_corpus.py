"""The corpus for base models states facts and train problems only, in varied and correct sentences."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

from harness.data.builtin import SPLITS, family_names, generate, split_of
from harness.data.builtin.core import FAMILIES, LEVELS
from harness.data.builtin.corpus import keyed_paragraphs, keyed_sentences, sentences
from harness.data.builtin.phrasing import HINTS, OPENERS
from harness.data.prompts import ALPACA, ALPACA_WITH_INPUT


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


def _bare(text: str) -> str:
    """Without case, punctuation and line breaks, so that none of them hides a repeated phrasing."""
    return " ".join(re.sub(r"[\"'?!.:]", " ", text.casefold()).split())


def test_no_question_and_no_statement_asks_as_an_instruction_does():
    """One problem in all its forms: an instruction's words, whatever their punctuation, are in none of them."""
    rng = Random("phrasings of the corpus")
    for name in family_names("train"):
        family = FAMILIES[name]
        for problem in (family.draw(rng, rng.choice(LEVELS)) for _ in range(30)):
            slots = problem.slots | {"answer": problem.answer}
            asked = [_bare(each.partition("\n\n")[0].format_map(slots)) for each in family.instructions]
            for form in (*family.questions, *family.statements):
                said = _bare(form.replace("|", " ").format_map(slots))
                assert not [each for each in asked if each in said], (name, form)


def test_paragraphs_hold_no_instruction_template_or_hint():
    corpus = _bare(" / ".join(text for _, text in islice(keyed_paragraphs(9), 6000)))
    templates = [line for template in (ALPACA, ALPACA_WITH_INPUT) for line in template.split("\n")]
    phrases = [
        *templates,
        *(opener.replace("{}", "") for opener in OPENERS),
        *(h for hints in HINTS.values() for h in hints),
    ]
    phrases += [hint for name in family_names("train") for hint in FAMILIES[name].hints if "{" not in hint]
    fixed = [_bare(phrase) for phrase in phrases if "{" not in phrase]
    found = [phrase for phrase in fixed if len(phrase.split()) > 1 and phrase in corpus]
    assert not found
    assert "the opposite of" in corpus


def test_no_instruction_of_any_split_is_in_the_paragraphs():
    corpus = _bare(" / ".join(text for _, text in islice(keyed_paragraphs(10), 6000)))
    for split in SPLITS:
        for item in generate(split, 400, seed=0):
            assert _bare(item.instruction) not in corpus, item


def test_questions_ask_only_problems_of_the_train_split_and_give_their_answer():
    """Reads the text itself: the answer of a sum that is asked, and that no held-out sum is."""
    seen = 0
    for keys, text in islice(keyed_paragraphs(11), 20_000):
        assert all(split_of(key) == "train" for key in keys)
        for a, sign, b, c in re.findall(r"^Q: ([0-9]+) (\+|-) ([0-9]+)\?\nA: ?([0-9]+)$", text, re.MULTILINE):
            assert int(c) == (int(a) + int(b) if sign == "+" else int(a) - int(b)), text
            high, low = sorted((int(a), int(b)), reverse=True)
            assert split_of(f"{'add' if sign == '+' else 'subtract'}:{high},{low}") == "train", text
            seen += 1
    assert seen > 20


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
