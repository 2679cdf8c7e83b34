"""Families on form and on reading: lists on lines, JSON, details found in a sentence, answers from a text."""

from __future__ import annotations

import json
from random import Random

from harness.data.builtin.core import LEVELS, Problem, and_list, family, joined, problem
from harness.data.builtin.words import COLOURS, DAYS, NAMES, THINGS, TOWNS, WORDS


@family(
    "bullet_list",
    kind="lines",
    instructions=(
        "Write the words {words} as a {style} list.",
        "Make a {style} list of {words}.",
        "Format {words} as a {style} list.",
        "Turn this into a {style} list.\n\n{words}",
        "Write these words as a {style} list, one word on each line.\n\n{words}",
        "Make a {style} list out of the words.\n\n{words}",
        "How do {words} look as a {style} list?",
    ),
    questions=(
        "A {style} list, what is it like?|{words}",
        "{words}: as a {style} list?",
        "The {style} list of {words}?",
        "Things on the {style} list|{words}",
    ),
    statements=(
        "The words {words} as a {style} list:\n{answer}",
        "Here is a {style} list of {words}.\n{answer}",
        "A {style} list:\n{answer}",
    ),
)
def bullet_list(rng: Random, level: int) -> Problem:
    words = rng.sample(WORDS, rng.randint(level + 1, level + 2))
    if rng.random() < 0.5:
        style, lines = "bulleted", [f"- {word}" for word in words]
    else:
        style, lines = "numbered", [f"{i}. {word}" for i, word in enumerate(words, 1)]
    return problem(f"lines:{joined(words)}", "\n".join(lines), words=joined(words, ", "), style=style)


@family(
    "json_object",
    kind="json",
    instructions=(
        "Write a JSON object with {pairs}.",
        "Make a JSON object that holds {pairs}.",
        "Turn this record into a JSON object.\n\n{pairs}",
        "Write the following as JSON.\n\n{pairs}",
        "Format these fields as a JSON object.\n\n{pairs}",
        "Convert the record into JSON.\n\n{pairs}",
        "What does the record {pairs} look like as a JSON object?",
    ),
    questions=(
        "{pairs}: in JSON?",
        "The JSON for this?|{pairs}",
        "How would a program store {pairs} as JSON?",
        "JSON of the record|{pairs}",
    ),
    statements=(
        "As JSON, {pairs} is {answer}",
        "The record {pairs} in JSON: {answer}",
        "{answer} is a JSON object.",
    ),
)
def json_object(rng: Random, level: int) -> Problem:
    fields: dict[str, str | int] = {
        "name": rng.choice(NAMES),
        "age": rng.randint(5, 90),
        "town": rng.choice(TOWNS),
        "colour": rng.choice(COLOURS),
        "item": rng.choice(list(THINGS)),
        "count": rng.randint(2, 99),
    }
    record = {field: fields[field] for field in rng.sample(list(fields), level + 1)}
    pairs = joined((f"{field}: {value}" for field, value in record.items()), ", ")
    return problem(f"json:{json.dumps(record, sort_keys=True)}", json.dumps(record), pairs=pairs)


def _scene(rng: Random, level: int) -> tuple[str, dict[str, str]]:
    """A sentence and its details, each of which it names exactly once; more of them with the level."""
    name, colour, day, town = (rng.choice(choices) for choices in (NAMES, COLOURS, DAYS, TOWNS))
    (thing, things), number = rng.choice(list(THINGS.items())), rng.randint(2, 99)
    verb = rng.choice(("bought", "found", "sold", "lost", "saw"))
    details = {"person's name": name, "colour": colour}
    if level == 1:
        return f"{name} {verb} {_a(colour)} {thing}.", details
    if level == 2:
        return f"On {day} {name} {verb} {_a(colour)} {thing}.", details | {"day": day}
    sentence = f"On {day} {name} {verb} {number} {colour} {things} in {town}."
    return sentence, details | {"day": day, "number": str(number), "town": town}


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


@family(
    "extract",
    kind="list",
    instructions=(
        'Find the {what} in this sentence: "{sentence}"',
        'What is the {what} in the sentence "{sentence}"?',
        "Which {what} does the sentence mention?\n\n{sentence}",
        "Extract the {what} from the sentence.\n\n{sentence}",
        "Copy the {what} from this text.\n\n{sentence}",
        "Read the sentence and give the {what}.\n\n{sentence}",
        'Here is a sentence: "{sentence}" Give the {what} in it.',
    ),
    questions=(
        "{sentence} Which {what} was that?",
        "The {what}?|{sentence}",
        "What {what} is named here?|{sentence}",
        "{sentence} The {what}, please?",
    ),
    statements=(
        "{sentence} The {what} is {answer}.",
        "{sentence} Here the {what} is {answer}.",
        "The {what} in this sentence is {answer}: {sentence}",
    ),
)
def extract(rng: Random, level: int) -> Problem:
    sentence, details = _scene(rng, level)
    wanted = rng.sample(list(details), 2 if level == LEVELS[-1] else 1)
    answer = joined((details[each] for each in wanted), ", ")
    return problem(f"extract:{sentence}", answer, sentence=sentence, what=and_list(wanted))


@family(
    "read_and_answer",
    kind="sentence",
    instructions=(
        "{text} What does {name} have?",
        "Read this: {text} Then say what {name} has.",
        "What does {name} have?\n\n{text}",
        "Read the text and say what belongs to {name}.\n\n{text}",
        "Look in the text for what {name} has.\n\n{text}",
        "Use the text to answer: what does {name} have?\n\n{text}",
        "Tell me what {name} has, by the following text.\n\n{text}",
    ),
    questions=(
        "{text} And {name}?",
        "What is in {name}'s hands?|{text}",
        "{text} What is {name}'s?",
        "The things of {name}|{text}",
    ),
    statements=(
        "{text} So, what is in the hands of {name}? {answer}",
        "{text} Someone asks about {name}. {answer}",
        "{text} It follows that {name} has {thing}.",
    ),
)
def read_and_answer(rng: Random, level: int) -> Problem:
    count = level + 1
    names, colours, things = (
        rng.sample(NAMES, count),
        rng.sample(COLOURS, count),
        rng.sample(list(THINGS), count),
    )
    owned = [f"{_a(colour)} {thing}" for colour, thing in zip(colours, things, strict=True)]
    facts = [f"{name} has {thing}." for name, thing in zip(names, owned, strict=True)]
    asked = rng.randrange(count)
    text = " ".join(facts)
    return problem(f"reading:{text}", facts[asked], text=text, name=names[asked], thing=owned[asked])
