"""The families that are never trained on: each asks for a skill of the seen ones in a new form.

They have no statements, so that the corpus does not show them either.
"""

from __future__ import annotations

from collections import Counter
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
    "begins_with",
    kind="list",
    unseen=True,
    instructions=(
        "Which of these words begin with {letter}: {words}?",
        "Find the words that begin with {letter} in {words}.",
        "List the words with {letter} as their first letter: {words}.",
        "Which words start with the letter {letter}?\n\n{words}",
        "Give all words that begin with {letter}, in the same order.\n\n{words}",
        "Take the words that start with {letter} out of the list.\n\n{words}",
        "Pick every word that has {letter} as its first letter.\n\n{words}",
    ),
)
def begins_with(rng: Random, level: int) -> Problem:
    letter = rng.choice(_COMMON_INITIALS)
    wanted = rng.sample([word for word in WORDS if word[0] == letter], 1 + (level > 1))
    others = rng.sample([word for word in WORDS if word[0] != letter], level + 1)
    words = [*wanted, *others]
    rng.shuffle(words)
    answer = joined((word for word in words if word in wanted), ", ")
    return problem(f"begins_with:{letter}:{joined(sorted(words))}", answer, letter=letter, words=joined(words, ", "))


# Letters that at least four of the words begin with.
_COMMON_INITIALS = tuple(sorted(letter for letter, count in Counter(word[0] for word in WORDS).items() if count >= 4))
