"""The families that are never trained on: each asks for a skill of the seen ones in a new form.

They have no statements, so that the corpus does not show them either.
"""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Problem, family, joined, problem
from harness.data.builtin.words import CATEGORIES, WORDS


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


@family(
    "count_words",
    kind="number",
    unseen=True,
    instructions=(
        "How many words are in this list: {words}?",
        "Count the words {words}.",
        "How many words does the list {words} have?",
        "Count these words.\n\n{words}",
        "How many words are there?\n\n{words}",
        "Give the number of words in the list.\n\n{words}",
        "Say how many words follow.\n\n{words}",
    ),
)
def count_words(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, rng.randint(2 * level, 2 * level + 2))
    return problem(f"count_words:{joined(sorted(words))}", len(words), words=joined(words, ", "))


@family(
    "middle_number",
    kind="number",
    unseen=True,
    instructions=(
        "Which of these numbers is neither the largest nor the smallest: {numbers}?",
        "Which of the numbers {numbers} is in the middle?",
        "Find the middle one of the numbers {numbers}.",
        "Which number lies between the two others?\n\n{numbers}",
        "Pick the number that is neither the largest nor the smallest.\n\n{numbers}",
        "Give the number in the middle, by size.\n\n{numbers}",
        "Name the number that is larger than one of these and smaller than the other.\n\n{numbers}",
    ),
)
def middle_number(rng: Random, level: int) -> Problem:
    numbers = rng.sample(range(2, (50, 100, 1000)[level - 1]), 3)
    middle = sorted(numbers)[1]
    return problem(f"middle_number:{joined(sorted(numbers))}", middle, numbers=joined(numbers, ", "))
