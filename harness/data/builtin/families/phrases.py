"""Families on words in a row: count, sort and join them, change their case, replace one, repeat one."""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Problem, family, joined, problem
from harness.data.builtin.words import WORDS


@family(
    "count_items",
    kind="number",
    instructions=(
        'How many {what} are there in this {group}: "{items}"?',
        'Count the {what} in the {group} "{items}".',
        "How many {what} does this {group} have?\n\n{items}",
        "Count the {what} in the {group}.\n\n{items}",
        "Tell me the number of {what} in this {group}.\n\n{items}",
        'Here is a {group}: "{items}". How many {what} are in it?',
        "What is the number of {what} in the {group}?\n\n{items}",
    ),
    questions=(
        "{items}: how many {what}?",
        "How long is the {group}, in {what}?|{items}",
        "number of {what}|{items}",
        "How many are they?|{items}",
    ),
    statements=(
        "There are {answer} {what} in the {group} {items}.",
        "The {group} {items} has {answer} {what}.",
        "{items}: that is a {group} of {answer} {what}.",
    ),
)
def count_items(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, rng.randint(2 * level + 1, 2 * level + 3))
    group, what, separator = rng.choice((("list", "items", ", "), ("text", "words", " "), ("list", "words", ", ")))
    items = joined(words, separator)
    return problem(f"items:{joined(words)}", len(words), group=group, what=what, items=items)


@family(
    "sort_words",
    kind="list",
    instructions=(
        "Sort these words alphabetically: {words}.",
        "Put the words {words} in alphabetical order.",
        "Arrange the words in alphabetical order.\n\n{words}",
        "Order these words from A to Z.\n\n{words}",
        "In what order would a dictionary have the words {words}?",
        "List the words {words} as a dictionary would.",
        "Rewrite the list so that it is in alphabetical order.\n\n{words}",
    ),
    questions=(
        "{words} by the alphabet?",
        "What comes first, what last, by the alphabet?|{words}",
        "alphabetical|{words}",
        "{words} in the order of the alphabet?",
        "Sorted from A to Z|{words}",
    ),
    statements=(
        "In alphabetical order, {words} becomes {answer}.",
        "A dictionary has the words {words} in the order {answer}.",
        "From A to Z: {answer}.",
        "The words {words} sorted by their letters are {answer}.",
    ),
)
def sort_words(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, level + 2)
    return problem(f"alphabet:{joined(sorted(words))}", joined(sorted(words), ", "), words=joined(words, ", "))


@family(
    "join_words",
    kind="text",
    instructions=(
        "Join the words {words} with {marks}.",
        "Put {marks} between the words {words}.",
        "Write {words} as one string, with {marks} in between.",
        "Join these words with {marks}.\n\n{words}",
        "Connect the words of the list with {marks}.\n\n{words}",
        "Make one string of the words, parted by {marks}.\n\n{words}",
        "What do you get when you join {words} with {marks}?",
    ),
    questions=(
        "{words} with {marks}?",
        "How are {words} written with {marks}, all in one?",
        "{marks} between|{words}",
        "One string with {marks}|{words}",
    ),
    statements=(
        "Joined with {marks}, {words} becomes {answer}.",
        "The words {words} with {marks} in between are written {answer}.",
        "{answer} is made of {words} and {marks}.",
    ),
)
def join_words(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, level + 1)
    marks, mark = rng.choice((("hyphens", "-"), ("underscores", "_"), ("plus signs", "+"), ("slashes", "/")))
    return problem(f"join:{joined(words)}", mark.join(words), words=joined(words, ", "), marks=marks)


@family(
    "change_case",
    kind="exact",
    instructions=(
        'Write "{phrase}" {style}.',
        'Give the text "{phrase}" again {style}.',
        'How does "{phrase}" look when it is written {style}?',
        "Write this text {style}.\n\n{phrase}",
        "Rewrite the words {style}.\n\n{phrase}",
        "Copy the text {style}.\n\n{phrase}",
        'Turn "{phrase}" into text {style}.',
    ),
    questions=(
        '"{phrase}" {style}?',
        "{phrase}, but {style}?",
        "{style}|{phrase}",
        "The same text {style}|{phrase}",
    ),
    statements=(
        "The text {phrase} {style} is {answer}.",
        "Written {style}, {phrase} becomes {answer}.",
        "{answer} is {phrase} {style}.",
    ),
)
def change_case(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, level + 1)
    phrase, key = " ".join(words), f"case:{joined(words)}"
    style, answer = rng.choice(
        (
            ("in capital letters", phrase.upper()),
            ("in small letters", phrase),
            ("with a capital at the start of each word", phrase.title()),
        )
    )
    shown = phrase.upper() if answer == phrase else phrase
    return problem(key, answer, phrase=shown, style=style)


@family(
    "add_word",
    kind="text",
    instructions=(
        'Put the word "{new}" {where} the text "{phrase}".',
        'Write "{phrase}" again, with "{new}" {where} it.',
        'What is "{phrase}" with the word "{new}" {where} it?',
        'Put "{new}" {where} this text.\n\n{phrase}',
        'Copy the text and put the word "{new}" {where} it.\n\n{phrase}',
        'Rewrite the text with "{new}" {where} it.\n\n{phrase}',
        'How does "{phrase}" look with "{new}" {where} it?',
    ),
    questions=(
        "{phrase}, and {new} {where} it?",
        'And if "{new}" stood {where} it?|{phrase}',
        "{new} {where}|{phrase}",
        '"{phrase}" and "{new}", the latter {where} the former?',
    ),
    statements=(
        "With {new} {where} it, {phrase} becomes {answer}.",
        "Putting {new} {where} {phrase} makes {answer}.",
        "The text {phrase} with {new} {where} it is {answer}.",
    ),
)
def add_word(rng: Random, level: int) -> Problem:
    new, *words = rng.sample(WORDS, level + 2)
    where = rng.choice(("before", "after"))
    text = " ".join([new, *words] if where == "before" else [*words, new])
    return problem(f"add_word:{where}:{new}:{joined(words)}", text, phrase=" ".join(words), new=new, where=where)


@family(
    "repeat",
    kind="list",
    instructions=(
        'Write the word "{word}" {n} times.',
        'Say "{word}" {n} times.',
        'Repeat "{word}" until you have it {n} times.',
        "Write this word {n} times.\n\n{word}",
        "Make a list that holds the word {n} times.\n\n{word}",
        'Give me "{word}" {n} times in a row.',
        "Copy the word {n} times.\n\n{word}",
    ),
    questions=(
        "{word}, {n} times over?",
        'How is {n} times "{word}" written?',
        "{n} times|{word}",
        "{n} of the word {word}?",
    ),
    statements=(
        "{n} times the word {word}: {answer}.",
        "The word {word} written {n} times is {answer}.",
        "Saying {word} {n} times sounds like this: {answer}.",
    ),
)
def repeat(rng: Random, level: int) -> Problem:
    word, n = rng.choice(WORDS), 2 * level + rng.randint(0, 1)
    return problem(f"repeat:{n}:{word}", joined([word] * n, ", "), word=word, n=n)
