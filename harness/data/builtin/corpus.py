"""Plain text with the facts and skills of the built-in tasks, to pretrain a small base model on.

Four sources: statements of the families and questions with answers (conversations.py), both only about problems of the
train split, single facts, and short descriptions of scenes. Nothing here is phrased as an instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from harness.data.builtin import words
from harness.data.builtin.conversations import conversation, worksheet
from harness.data.builtin.core import FAMILIES, LEVELS, Family, Problem, joined, split_of
from harness.data.builtin.items import family_names


def sentences(seed: int) -> Iterator[str]:
    """Yield plain statements without end, the same for the same seed.

    No statement is about a problem of the heldout or unseen split: those are left out by their content keys.
    The single facts are no family's problem.
    """
    return (text for _, text in keyed_sentences(seed))


def keyed_sentences(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (content key, statement); the key is "" for facts and scenes, which are no family's problem."""
    rng = Random(f"builtin/corpus/{seed}")
    families = [FAMILIES[name] for name in family_names("train")]
    while True:
        if rng.random() < _FACT_SHARE:
            yield "", rng.choice(_FACTS)(rng)
            continue
        if problem := _train_problem(rng, family := rng.choice(families)):
            yield problem.key, _statement(rng, family, problem)


def paragraphs(seed: int) -> Iterator[str]:
    """Yield paragraphs without end: statements, or questions with their answers; the same for the same seed.

    Statements are about one family, one problem said again in other words, facts, a mixture, or a single one.
    """
    return (text for _, text in keyed_paragraphs(seed))


def keyed_paragraphs(seed: int) -> Iterator[tuple[list[str], str]]:
    """Yield (content keys of its problems, paragraph)."""
    rng = Random(f"builtin/paragraphs/{seed}")
    mixture = keyed_sentences(rng.getrandbits(32))
    while True:
        if rng.random() < _QUESTION_SHARE:
            keys, text = _questions(rng)
        else:
            keys, text = _statements(rng, mixture)
        if text:
            yield keys, text


def _questions(rng: Random) -> tuple[list[str], str]:
    """One to five problems asked and answered: of one family, in rows, or of any."""
    kind, size = rng.random(), rng.choice((1, 1, 1, 2, 3, 4, 5))
    one = _drawn_family(rng)
    families = [one if kind < 0.6 else _drawn_family(rng) for _ in range(size)]
    asked = [(family, found) for family in families if (found := _train_problem(rng, family))]
    if not asked:
        return [], ""
    text = worksheet(rng, one, [found for _, found in asked]) if kind < 0.15 else conversation(rng, asked)
    return [found.key for _, found in asked], text


def _statements(rng: Random, mixture: Iterator[tuple[str, str]]) -> tuple[list[str], str]:
    kind, size = rng.random(), rng.randint(2, 6)
    family = _drawn_family(rng)
    if kind < 0.5:
        parts = _about(rng, family, [_train_problem(rng, family) for _ in range(size)])
    elif kind < 0.65:
        parts = _again(rng, family, _train_problem(rng, family))
    elif kind < 0.75:
        parts = [("", rng.choice(_FACTS)(rng)) for _ in range(size)]
    else:
        parts = [next(mixture) for _ in range(size if kind < 0.9 else 1)]
    text = rng.choice(("\n", "\n", " ")).join(t for _, t in parts)
    return [key for key, _ in parts if key], _wrapped(rng, text) if rng.random() < _WRAPPED_SHARE else text


def _drawn_family(rng: Random) -> Family:
    names = family_names("train")
    return FAMILIES[rng.choices(names, [_WEIGHTS.get(name, 1.0) for name in names])[0]]


def _wrapped(rng: Random, text: str) -> str:
    """The text with some of its spaces as line breaks.

    A word after a space and the same word at the start of a line are different tokens. Without text that breaks lines
    anywhere, a small model never learns that they are one word, and an answer begins without a space before it.
    """
    share = rng.choice((0.05, 0.15, 0.4))
    return "".join("\n" if char == " " and rng.random() < share else char for char in text)


def _about(rng: Random, family: Family, problems: list[Problem | None]) -> list[tuple[str, str]]:
    """(content key, statement) of each problem, half the time all in the same words."""
    template = rng.choice(family.statements) if rng.random() < 0.5 else None
    return [(each.key, _statement(rng, family, each, template)) for each in problems if each]


def _again(rng: Random, family: Family, problem: Problem | None) -> list[tuple[str, str]]:
    """One problem in two or three different wordings, where the family has as many."""
    wordings = rng.sample(family.statements, min(rng.randint(2, 3), len(family.statements)))
    return [(problem.key, _statement(rng, family, problem, each)) for each in wordings] if problem else []


def _train_problem(rng: Random, family: Family) -> Problem | None:
    problem = family.draw(rng, rng.choice(LEVELS))
    return problem if split_of(problem.key) == "train" else None


def _statement(rng: Random, family: Family, problem: Problem, template: str | None = None) -> str:
    template = template or rng.choice(family.statements)
    return template.format(answer=problem.answer, **problem.slots)


_FACT_SHARE = 0.35
_QUESTION_SHARE = 0.8
# How often a family comes up in a paragraph: more often what a small model learns slowly.
_WEIGHTS = {
    **dict.fromkeys(("add_word", "replace_letter"), 3.0),
    **dict.fromkeys(("add", "subtract", "sort_numbers", "sort_words", "reverse", "read_and_answer"), 2.0),
    **dict.fromkeys(("change_case", "number_rule", "yes_no"), 1.5),
    **dict.fromkeys(("bullet_list", "json_object", "extract", "opposites", "colours", "capital", "repeat"), 0.7),
}
_WRAPPED_SHARE = 0.4


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _opposite(rng: Random) -> str:
    one, two = rng.choice(list(words.OPPOSITES.items()))
    forms = ("The opposite of {} is {}.", "{} is the opposite of {}.", "{} and {} are opposites.")
    return _capitalised(rng.choice(forms).format(one, two))


def _colour(rng: Random) -> str:
    thing, colour = rng.choice(list(words.COLOUR_OF.items()))
    forms = ("{} is {}.", "{} is usually {}.", "The colour of {} is {}.")
    return _capitalised(rng.choice(forms).format(thing, colour))


def _capital(rng: Random) -> str:
    country, city = rng.choice(list(words.CAPITALS.items()))
    forms = ("The capital of {} is {}.", "{1} is the capital of {0}.", "{1} is a city in {0}.")
    return rng.choice(forms).format(country, city)


def _category(rng: Random) -> str:
    word, category = rng.choice(list(words.CATEGORY_OF.items()))
    members = joined(rng.sample(words.CATEGORIES[category], 3), ", ")
    article = "an" if category[0] in "aeiou" else "a"
    forms = (
        f'The word "{word}" names {article} {category}.',
        f"{category}s: {members}.",
        f"{word}: {article} {category}",
    )
    return _capitalised(rng.choice(forms))


def _small_sum(rng: Random) -> str:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    forms = (
        f"{a} + {b} = {a + b}",
        f"{a + b} - {b} = {a}",
        f"{a} plus {b} is {a + b}.",
        f"{a + b} minus {a} is {b}.",
    )
    return rng.choice(forms)


def _number_row(rng: Random) -> str:
    n = rng.randint(1, 999)
    forms = (
        f"After {n} comes {n + 1}.",
        f"Before {n} comes {n - 1}.",
        f"{n} lies between {n - 1} and {n + 1}.",
    )
    return rng.choice(forms)


def _alphabet(rng: Random) -> str:
    start = rng.randint(0, 22)
    letters = "abcdefghijklmnopqrstuvwxyz"[start : start + 4]
    forms = (
        f"The letters {joined(letters, ', ')} follow one another in the alphabet.",
        f"After {letters[0]} comes {letters[1]}.",
    )
    return rng.choice(forms)


def _word_length(rng: Random) -> str:
    word = rng.choice(words.WORDS)
    forms = (
        f"The word {word} has {len(word)} letters.",
        f"The word {word} begins with {word[0]} and ends with {word[-1]}.",
        f"{word} in capital letters is {word.upper()}.",
    )
    return rng.choice(forms)


def _calendar(rng: Random) -> str:
    names = rng.choice((words.DAYS, words.MONTHS))
    i = rng.randrange(len(names) - 1)
    return rng.choice((f"{names[i + 1]} comes after {names[i]}.", f"{names[i]} comes before {names[i + 1]}."))


def _scene(rng: Random) -> str:
    name, other = rng.sample(words.NAMES, 2)
    thing, things = rng.choice(list(words.THINGS.items()))
    colour, day, town = rng.choice(words.COLOURS), rng.choice(words.DAYS), rng.choice(words.TOWNS)
    n = rng.randint(2, 99)
    forms = (
        f"{name} gave the {colour} {thing} to {other} on {day}.",
        f"In {town} {name} met {other}, who had {n} {things}.",
        f"The {thing} of {name} is {colour}, and {other} has {n} {things} at home in {town}.",
        f"On {day} {name} and {other} went to {town} to look for a {thing}.",
        f"{name} wrote: the {things} are {colour}. {other} read it on {day}.",
    )
    return rng.choice(forms)


_FACTS: tuple[Callable[[Random], str], ...] = (
    *(_opposite, _colour, _capital, _category, _small_sum),
    *(_number_row, _alphabet, _word_length, _calendar, _scene),
)
