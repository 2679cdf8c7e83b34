"""The families that are never trained on: each asks for a skill of the seen ones in a new form.

They have no statements, so that the corpus does not show them either.
"""

from __future__ import annotations

from random import Random

from harness.builtin.core import Problem, family, joined, problem
from harness.builtin.words import CATEGORIES, WORDS


@family(
    "odd_one_out",
    kind="text",
    unseen=True,
    instructions=(
        "Which word does not belong with the others: {words}?",
        "Find the odd one out: {words}.",
        "Which of the words {words} is of another kind than the rest?",
        "One of these words does not fit. Which one?\n\n{words}",
        "Find the word that does not belong.\n\n{words}",
        "Name the odd one out.\n\n{words}",
        "All of these words but one are of the same kind. Which is the exception?\n\n{words}",
    ),
)
def odd_one_out(rng: Random, level: int) -> Problem:
    kind, other = rng.sample(list(CATEGORIES), 2)
    odd = rng.choice(CATEGORIES[other])
    words = [odd, *rng.sample(CATEGORIES[kind], level + 1)]
    rng.shuffle(words)
    return problem(f"odd_one_out:{joined(sorted(words))}", odd, words=joined(words, ", "))


@family(
    "longest_word",
    kind="text",
    unseen=True,
    instructions=(
        "Which of these words is the longest: {words}?",
        "Find the longest of the words {words}.",
        "Which word has the most letters: {words}?",
        "Name the longest word.\n\n{words}",
        "Which word in this list has more letters than any other?\n\n{words}",
        "Give the word that has the most letters.\n\n{words}",
        "Pick the longest word of the list.\n\n{words}",
    ),
)
def longest_word(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, level + 2)
    longest, second = sorted(words, key=len, reverse=True)[:2]
    if len(longest) == len(second):
        return longest_word(rng, level)
    return problem(f"longest_word:{joined(sorted(words))}", longest, words=joined(words, ", "))
