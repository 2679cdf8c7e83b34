"""Families on sums: add, subtract, a story with a sum in it, a sum with its working.

Sums of two one-digit numbers, and their inverses, are not asked: they are knowledge, which the corpus states.
"""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Problem, family, problem
from harness.data.builtin.words import NAMES, THINGS


def _operands(rng: Random, level: int) -> tuple[int, int]:
    """The larger number first, at least 20; level 1: two digits and one, 2: two and two, 3: three."""
    if level == 1:
        return rng.randint(20, 99), rng.randint(2, 9)
    first = rng.randint(20, 99) if level == 2 else rng.randint(100, 499)
    return first, rng.randint(10, first - 2)


@family(
    "add",
    kind="number",
    instructions=(
        "Add {a} and {b}.",
        "What is {a} plus {b}?",
        "What is the sum of {a} and {b}?",
        "Calculate {a} + {b}.",
        "Find the total of {a} and {b}.",
        "How much is {a} + {b}?",
        "Add the two numbers.\n\n{a} and {b}",
        "Work out the sum.\n\n{a} + {b}",
        "Find the sum of these numbers.\n\n{a}, {b}",
    ),
    questions=(
        "{a} + {b}?",
        "{a} and {b} together make what?",
        "How many are {a} and {b} in all?",
        "sum of {a} and {b}",
        "Put {a} on top of {b}: how many?",
        "{a} plus {b}, please?",
    ),
    statements=(
        "{a} plus {b} is {answer}.",
        "{a} + {b} = {answer}",
        "The sum of {a} and {b} is {answer}.",
        "Adding {b} to {a} makes {answer}.",
        "{b} more than {a} is {answer}.",
        "If you put {a} and {b} together, you get {answer}.",
    ),
)
def add(rng: Random, level: int) -> Problem:
    a, b = _operands(rng, level)
    first, second = rng.sample((a, b), 2)
    return problem(f"add:{a},{b}", a + b, a=first, b=second)


@family(
    "subtract",
    kind="number",
    instructions=(
        "Subtract {b} from {a}.",
        "What is {a} minus {b}?",
        "Calculate {a} - {b}.",
        "Take {b} away from {a}.",
        "What is the difference between {a} and {b}?",
        "How much is left when you take {b} from {a}?",
        "Work out the difference.\n\n{a} - {b}",
        "Subtract the second number from the first.\n\n{a}, {b}",
    ),
    questions=(
        "{a} - {b}?",
        "{a} without {b} leaves what?",
        "How far is it from {b} to {a}?",
        "{b} taken off {a}",
        "{a} minus {b}, please?",
        "What stays of {a} when {b} are gone?",
    ),
    statements=(
        "{a} minus {b} is {answer}.",
        "{a} - {b} = {answer}",
        "Taking {b} away from {a} leaves {answer}.",
        "The difference between {a} and {b} is {answer}.",
        "{b} less than {a} is {answer}.",
    ),
)
def subtract(rng: Random, level: int) -> Problem:
    a, b = _operands(rng, level)
    return problem(f"subtract:{a},{b}", a - b, a=a, b=b)


@family(
    "story_sum",
    kind="sentence",
    instructions=(
        "{name} has {a} {things}. {name} {change}. How many {things} does {name} have now?",
        "{name} has {a} {things} and {change}. How many {things} does {name} have in the end?",
        "First {name} has {a} {things}. Then {name} {change}. How many {things} does {name} have now?",
        "Solve the problem.\n\n{name} has {a} {things}. {name} {change}. How many {things} does {name} have?",
        "Say how many {things} {name} has at the end of the story.\n\n{name} has {a} {things} and {change}.",
        "How many {things} does {name} have after this?\n\n{name} has {a} {things}. {name} {change}.",
        "Tell me how many {things} {name} has in the end.\n\n{name} has {a} {things} and then {change}.",
    ),
    questions=(
        "{name} has {a} {things}. {name} {change}. And now?",
        "How many {things} are {name}'s?|{name} has {a} {things} and {change}.",
        "{name} has {a} {things} and then {change}. What does that make?",
        "Once {name} has {a} {things}. Later {name} {change}. Count the {things}?",
    ),
    statements=(
        "{name} has {a} {things} and {change}. {answer}",
        "{name} has {a} {things}. {name} {change}. Now {name} has {total} {things}.",
        "When {name}, who has {a} {things}, {change}, it makes {total} {things}.",
    ),
)
def story_sum(rng: Random, level: int) -> Problem:
    a, b = _operands(rng, level)
    name, things = rng.choice(NAMES), rng.choice(list(THINGS.values()))
    if rng.random() < 0.5:
        skill, total, change = "add", a + b, rng.choice(("finds {} more", "gets {} more", "buys {} more"))
    else:
        skill, total, change = "subtract", a - b, rng.choice(("loses {}", "gives away {}", "sells {}"))
    answer = f"{name} has {total} {things}."
    change = change.format(b)
    return problem(f"{skill}:{a},{b}", answer, name=name, a=a, things=things, change=change, total=total)


@family(
    "show_working",
    kind="sentence",
    instructions=(
        "Calculate {a} {sign} {b} and show your working.",
        "Work out {a} {sign} {b}. Write down the sum and then the answer.",
        "What is {a} {sign} {b}? Show the sum and then say what the answer is.",
        "Show how you get the answer.\n\n{a} {sign} {b}",
        "Write out this sum and its answer.\n\n{a} {sign} {b}",
        "Solve this and state the answer after the sum.\n\n{a} {sign} {b}",
    ),
    questions=(
        "{a} {sign} {b}, step by step?",
        "How does one get to the result of {a} {sign} {b}?",
        "The sum in full|{a} {sign} {b}",
        "Explain {a} {sign} {b}, with the answer at the end?",
    ),
    statements=("{answer}", "{a} {sign} {b}, how much is that? {answer}", "{name} works it out: {answer}"),
    hints=(
        'End with "so the answer is" and the number.',
        'Finish with the words "so the answer is" and the number.',
    ),
)
def show_working(rng: Random, level: int) -> Problem:
    a, b = _operands(rng, level)
    skill, sign, total = rng.choice((("add", "+", a + b), ("subtract", "-", a - b)))
    answer = f"{a} {sign} {b} = {total}, so the answer is {total}."
    return problem(f"{skill}:{a},{b}", answer, a=a, b=b, sign=sign, name=rng.choice(NAMES))
