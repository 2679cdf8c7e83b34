"""Questions with answers, lists and dialogues for the base model's corpus, as people write them down.

Real text for pretraining holds them, and what a model has seen answered it can be brought to answer. None has the words
or the template of an instruction (tests/data/test_builtin_corpus.py).
"""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Family, Problem
from harness.data.builtin.words import NAMES

# One question with its answer. After a colon, a space, a line end or nothing: an answer may stand anywhere.
_FRAMES = (
    *("Q: {q}\nA: {a}", "Q: {q}\nA:{a}", "Question: {q}\nAnswer: {a}", "Question: {q}\n\nAnswer:{a}"),
    *("{q}\n{a}", "{q} {a}", "{q}\n\n{a}", "{q} -> {a}", "{q}\nAnswer:{a}", "{q}\n\nThe answer:\n{a}"),
    *("{asker}: {q}\n{other}: {a}", "{asker}: {q}\n{other}:{a}", "{asker} asks: {q}\n{other} says:\n{a}"),
    *('"{q}" {asker} wants to know.\n{other}: {a}', "- {q}\n- {a}", "Exercise:\n{q}\n\nSolution:{a}"),
)
# Between a question and what it is about.
_BEFORE_MATERIAL = (": ", ":\n", "\n", "\n\n", "\n\nText:\n", " - ", "\n\n# ")
# A list of one kind of problem under its heading.
_ROWS = ("{m} -> {a}", "{m}: {a}", "{m}\n{a}", "{m} | {a}", "{m}\n= {a}")


def conversation(rng: Random, problems: list[tuple[Family, Problem]]) -> str:
    """Every problem asked and answered, all in one frame; between two people they are the same two throughout."""
    frame = rng.choice(_FRAMES)
    asker, other = rng.sample(NAMES, 2)
    parts = []
    for family, problem in problems:
        heading, material = _asked(rng.choice(family.questions), problem)
        question = heading + rng.choice(_BEFORE_MATERIAL) + material if material else heading
        parts.append(frame.format(q=question, a=problem.answer, asker=asker, other=other))
    return rng.choice(("\n", "\n\n")).join(parts)


def worksheet(rng: Random, family: Family, problems: list[Problem]) -> str:
    """A heading, then problems of one family in rows, where the family has a question with its material apart."""
    apart = [each for each in family.questions if "|" in each]
    if not apart:
        return conversation(rng, [(family, each) for each in problems])
    template, row = rng.choice(apart), rng.choice(_ROWS)
    rows = []
    for problem in problems:
        heading, material = _asked(template, problem)
        rows.append(heading + "\n" + row.format(m=material, a=problem.answer))
    return rng.choice(("\n", "\n\n")).join(rows)


def _asked(template: str, problem: Problem) -> tuple[str, str]:
    """(question, material); the material is "" where the question holds everything."""
    heading, _, material = template.partition("|")
    return heading.format_map(problem.slots), material.format_map(problem.slots)
