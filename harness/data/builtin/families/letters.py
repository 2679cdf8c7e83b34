"""Families on the letters of words: count, reverse, first and last, spell, replace."""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Problem, family, joined, problem
from harness.data.builtin.words import WORDS

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_BY_LEVEL = {
    1: [word for word in WORDS if len(word) <= 4],
    2: [word for word in WORDS if 5 <= len(word) <= 6],
    3: [word for word in WORDS if len(word) >= 7],
}


def _word(rng: Random, level: int) -> str:
    """A real word, or as often an invented one, so that there is always another; longer with the level."""
    if rng.random() < 0.5:
        return rng.choice(_BY_LEVEL[level])
    return "".join(rng.choices(_SYLLABLES, k=level + 1)) + rng.choice(("", "n", "s", "r"))


@family(
    "count_letters",
    kind="number",
    instructions=(
        'How many times does the letter {letter} occur in "{word}"?',
        'Count the letter {letter} in the word "{word}".',
        'How often is {letter} found in the word "{word}"?',
        "Count how many times the letter {letter} is in this word.\n\n{word}",
        "How many times does this word have the letter {letter}?\n\n{word}",
        'Look at the word "{word}". How many times do you see the letter {letter}?',
        'Tell me how many times "{word}" contains the letter {letter}.',
    ),
    questions=(
        "{word}: how many {letter}?",
        "Number of times {letter} is in {word}?",
        "{letter} in {word}, how many times?",
        "The letter {letter} in the word, counted|{word}",
        'How many {letter} has the word "{word}"?',
    ),
    statements=(
        "In the word {word} the letter {letter} occurs {times}.",
        "The letters of {word} are {letters}: there you find the letter {letter} {times}.",
        "The number of times that {letter} is in {word} is {answer}.",
    ),
)
def count_letters(rng: Random, level: int) -> Problem:
    word = _word(rng, level)
    # Most letters occur once: the count is drawn first, so that "1" is not a safe guess.
    letters_by_count: dict[int, list[str]] = {}
    for candidate in sorted({*word, *"aeorst"}):
        letters_by_count.setdefault(word.count(candidate), []).append(candidate)
    count = rng.choice(list(letters_by_count))
    letter = rng.choice(letters_by_count[count])
    times = "once" if count == 1 else f"{count} times"
    letters = joined(word, ", ")
    return problem(f"letters:{letter}:{word}", count, letter=letter, word=word, times=times, letters=letters)


@family(
    "reverse",
    kind="text",
    instructions=(
        'Write the word "{word}" backwards.',
        'Reverse the letters of "{word}".',
        'What is "{word}" spelled backwards?',
        "Reverse this word.\n\n{word}",
        "Write the letters in the opposite order.\n\n{word}",
        'What do you get when you reverse the word "{word}"?',
        "Turn the word around, so that its last letter comes first.\n\n{word}",
    ),
    questions=(
        "{word} backwards?",
        'What is "{word}" from its end to its start?',
        "The word from behind|{word}",
        "reversed|{word}",
        "{word}, read from the right?",
        'The letters of "{word}" in reverse order?',
    ),
    statements=(
        "The word {word} written backwards is {answer}.",
        "Backwards, {word} becomes {answer}.",
        "Reversing {word} gives {answer}.",
        "The letters {letters} in the opposite order are {reversed}.",
    ),
)
def reverse(rng: Random, level: int) -> Problem:
    word = _word(rng, level)
    back = word[::-1]
    return problem(f"reverse:{min(word, back)}", back, word=word, letters=joined(word, " "), reversed=joined(back, " "))


@family(
    "edge_letters",
    kind="list",
    instructions=(
        "What is the {edge} letter of each of these words: {words}?",
        "Give the {edge} letter of every word: {words}.",
        "Write down the {edge} letters of the words {words}.",
        "Find the {edge} letter of each word.\n\n{words}",
        "List the {edge} letters of the words.\n\n{words}",
        "Take the {edge} letter of every word in the list.\n\n{words}",
        "Which letters are the {edge} letters of {words}?",
    ),
    questions=(
        "{words}: {edge} letters?",
        "The {edge} letter in each of {words}?",
        "{edge} letters|{words}",
        "What {edge} letters have these?|{words}",
    ),
    statements=(
        "The {edge} letters of {words} are {answer}.",
        "{words}: the {edge} letters are {answer}.",
        "Taking the {edge} letter of each of {words} gives {answer}.",
    ),
)
def edge_letters(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, level + 1)
    edge, index = rng.choice((("first", 0), ("second", 1), ("last", -1)))
    answer = joined((word[index] for word in words), ", ")
    return problem(f"edge:{joined(sorted(words))}", answer, edge=edge, words=joined(words, ", "))


@family(
    "spell",
    kind="text",
    instructions=(
        'Spell the word "{word}" with {marks} between the letters.',
        'Write "{word}" letter by letter, with {marks} in between.',
        'How do you spell "{word}"? Put {marks} between the letters.',
        "Spell this word with {marks} between the letters.\n\n{word}",
        "Separate the letters of the word with {marks}.\n\n{word}",
        'Put {marks} between the letters of "{word}".',
        "Write the word with {marks} between each two letters.\n\n{word}",
    ),
    questions=(
        "{word} with {marks} between its letters?",
        'How is "{word}" spelled with {marks}?',
        "Letter by letter, {marks} between|{word}",
        "The spelling of {word}, with {marks}?",
    ),
    statements=(
        "The word {word} is spelled {answer}.",
        "{word} is spelled {answer}, with {marks} between the letters.",
        "Spelled out, {word} is {answer}.",
    ),
)
def spell(rng: Random, level: int) -> Problem:
    word = _word(rng, level)
    marks, mark = rng.choice((("hyphens", "-"), ("spaces", " "), ("plus signs", "+")))
    return problem(f"spell:{word}", mark.join(word), word=word, marks=marks)


@family(
    "replace_letter",
    kind="text",
    instructions=(
        'Replace every {old} with {new} in the word "{word}".',
        'Change each letter {old} in "{word}" to {new}.',
        'In the word "{word}", write {new} wherever there is {old}. What is the result?',
        "Replace the letter {old} with the letter {new}.\n\n{word}",
        "Change every {old} in this word into {new}.\n\n{word}",
        'What does "{word}" become when each {old} turns into {new}?',
        "Rewrite the word with {new} in place of {old}.\n\n{word}",
    ),
    questions=(
        "{word} with {new} for {old}?",
        'What is "{word}" with {new} and not {old}?',
        "{old} to {new}|{word}",
        "{new} in place of each {old}|{word}",
        "If {old} is {new}, how is {word} written?",
    ),
    statements=(
        "With {new} in place of {old}, {word} becomes {answer}.",
        "Replacing {old} with {new} turns {word} into {answer}.",
        "If every {old} in {word} is changed to {new}, the result is {answer}.",
    ),
)
def replace_letter(rng: Random, level: int) -> Problem:
    word = _word(rng, level)
    old = rng.choice(word)
    new = rng.choice([letter for letter in "aeioubdkmprst" if letter not in word])
    return problem(f"replace:{old}:{new}:{word}", word.replace(old, new), word=word, old=old, new=new)
