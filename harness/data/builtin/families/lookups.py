"""Families that look facts up: opposites, colours, capitals, choosing by category, grouping by category.

A single fact is knowledge, which the corpus states; what is asked, and held out, is a combination of facts.
"""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Problem, and_list, family, joined, problem
from harness.data.builtin.words import CAPITALS, CATEGORIES, COLOUR_OF, OPPOSITES


@family(
    "opposites",
    kind="list",
    instructions=(
        "What are the opposites of {words}?",
        "Give the opposite of each of these words: {words}.",
        "Find the opposites of the words {words}.",
        "Write the opposite of each word.\n\n{words}",
        "Replace each word by its opposite.\n\n{words}",
        "List the opposites of the words.\n\n{words}",
        "Name the words that mean the opposite of {words}.",
    ),
    questions=(
        "{words}: the opposites?",
        "What are {words} not?",
        "Their opposites|{words}",
        "The reverse in meaning of {words}?",
        "opposite of each word|{words}",
    ),
    statements=(
        "The opposites of {words} are {answer}.",
        "The words {words} have the opposites {answer}.",
        "Turned into their opposites, {words} become {answer}.",
        "{answer} are the opposites of {words}.",
    ),
)
def opposites(rng: Random, level: int) -> Problem:
    words = rng.sample(list(OPPOSITES), level + 1)
    key = f"opposites:{joined(sorted(words))}"
    return problem(key, joined((OPPOSITES[word] for word in words), ", "), words=joined(words, ", "))


@family(
    "colours",
    kind="sentence",
    instructions=(
        "What are the colours of {things}?",
        "Say which colours {things} usually have.",
        "Tell me the colour of each of these: {things}.",
        "What colour is each of these things?\n\n{things}",
        "Name the usual colour of each thing, in the same order.\n\n{things}",
        "Give the colour of every thing in the list.\n\n{things}",
        "Which colours do {things} have?",
    ),
    questions=(
        "How are {things} coloured?",
        "{things}: what colours?",
        "In what colours does one see {things}?",
        "colours|{things}",
    ),
    statements=("{answer}", "Asked about {things}, one says: {answer}", "It is well known: {answer}"),
)
def colours(rng: Random, level: int) -> Problem:
    things = rng.sample(list(COLOUR_OF), level + 1)
    answer = and_list([f"{thing} is {COLOUR_OF[thing]}" for thing in things])
    key = f"colours:{joined(sorted(things))}"
    return problem(key, f"{answer[0].upper()}{answer[1:]}.", things=and_list(things))


@family(
    "capital",
    kind="sentence",
    instructions=(
        "Which of these cities is the capital of {country}: {cities}?",
        "Choose the capital of {country} from {cities}.",
        "The cities are {cities}. Which one is the capital of {country}?",
        "Which city is the capital of {country}?\n\n{cities}",
        "Find the capital of {country} in the list.\n\n{cities}",
        "Name the city that is the capital of {country}.\n\n{cities}",
        "Pick the capital of {country}.\n\n{cities}",
    ),
    questions=(
        "{cities}: where is the government of {country}?",
        "From which of {cities} is {country} ruled?",
        "The capital of {country}, out of {cities}?",
        "capital of {country}|{cities}",
    ),
    statements=(
        "Of the cities {cities}, it is {city} that is the capital of {country}.",
        "{cities}: among these, {city} is the capital of {country}.",
        "Among {cities} there is one capital of {country}: {city}.",
    ),
)
def capital(rng: Random, level: int) -> Problem:
    country, *others = rng.sample(list(CAPITALS), level + 2)
    city = CAPITALS[country]
    cities = [city, *(CAPITALS[other] for other in others)]
    rng.shuffle(cities)
    key = f"capital:{country}:{joined(sorted(cities))}"
    answer = f"The capital of {country} is {city}."
    return problem(key, answer, country=country, cities=joined(cities, ", "), city=city)


@family(
    "choose",
    kind="text",
    instructions=(
        "Which of these words names {a_category}: {words}?",
        "Which one is {a_category}: {words}?",
        "Pick the word that names {a_category} from {words}.",
        "Find {a_category} in this list.\n\n{words}",
        "One of these words is {a_category}. Which one?\n\n{words}",
        "Choose the word for {a_category}.\n\n{words}",
        "Look for {a_category} among the words.\n\n{words}",
    ),
    questions=(
        "{words}: where is {a_category}?",
        "What among {words} is {a_category}?",
        "{a_category}, which word?|{words}",
        "Only one is {a_category}|{words}",
    ),
    statements=(
        "Of the words {words}, the one that names {a_category} is {answer}.",
        "Among {words} there is {a_category}: {answer}.",
        "{words}: only {answer} is {a_category}.",
    ),
)
def choose(rng: Random, level: int) -> Problem:
    category, *others = rng.sample(list(CATEGORIES), level + 2)
    answer = rng.choice(CATEGORIES[category])
    words = [answer, *(rng.choice(CATEGORIES[other]) for other in others)]
    rng.shuffle(words)
    article = "an" if category[0] in "aeiou" else "a"
    key = f"choose:{category}:{joined(sorted(words))}"
    return problem(key, answer, a_category=f"{article} {category}", words=joined(words, ", "))


@family(
    "group",
    kind="lines",
    instructions=(
        "Group the words {words} into {one} and {two}.",
        "Sort {words} into two groups, {one} and {two}.",
        "Which of the words are {one} and which are {two}?\n\n{words}",
        "Put each word into its group, {one} or {two}.\n\n{words}",
        "Make two lists of these words, one of {one} and one of {two}.\n\n{words}",
        "Separate the {one} from the {two}.\n\n{words}",
    ),
    questions=(
        "{words}: {one} or {two}?",
        "The {one} and the {two} here?|{words}",
        "What is what, {one} or {two}, in {words}?",
        "{one}, {two}|{words}",
    ),
    statements=(
        "{words} can be put into groups.\n{answer}",
        "The words {words} are of two kinds.\n{answer}",
        "Here are {one} and {two}.\n{answer}",
    ),
    hints=(
        'Write one line for each group, like "{one}: ...".',
        "Begin each line with the name of the group and a colon.",
    ),
)
def group(rng: Random, level: int) -> Problem:
    one, two = rng.sample(list(CATEGORIES), 2)
    total = level + 2
    count = rng.randint(1, total - 1)
    first, second = rng.sample(CATEGORIES[one], count), rng.sample(CATEGORIES[two], total - count)
    words = [*first, *second]
    rng.shuffle(words)
    lines = [
        f"{name}s: {joined((word for word in words if word in members), ', ')}"
        for name, members in ((one, first), (two, second))
    ]
    key = f"group:{joined(sorted(words))}"
    return problem(key, "\n".join(lines), words=joined(words, ", "), one=f"{one}s", two=f"{two}s")
