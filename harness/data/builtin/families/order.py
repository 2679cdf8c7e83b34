"""Families on the order of numbers: largest, sort, yes or no, sequences, counting, a rule to follow.

Everything that asks how a set of numbers is ordered shares the skill "order": which of 17 and 25 is larger,
whether 17 is less than 25 and sorting the two are one problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from harness.data.builtin.core import Problem, family, joined, problem
from harness.data.builtin.words import COLOURS, NAMES

_HIGHEST = {1: 50, 2: 100, 3: 1000}


def _numbers(rng: Random, count: int, level: int) -> list[int]:
    return rng.sample(range(2, _HIGHEST[level]), count)


def _order_key(numbers: Iterable[int]) -> str:
    return f"order:{joined(sorted(numbers))}"


@family(
    "largest_number",
    kind="number",
    instructions=(
        "Which of these numbers is the {most}: {numbers}?",
        "What is the {most} number in this list: {numbers}?",
        "Find the {most} of the numbers {numbers}.",
        "Pick the {most} number.\n\n{numbers}",
        "Look at the numbers. Which one is the {most}?\n\n{numbers}",
        "Give the {most} number of the list.\n\n{numbers}",
        "Here are some numbers: {numbers}. Which is the {most}?",
    ),
    questions=(
        "{numbers}: the {most}?",
        "Which is the {most} of {numbers}?",
        "{most} number|{numbers}",
        "What number here is the {most}?|{numbers}",
        "Which one is {more} than all others?|{numbers}",
    ),
    statements=(
        "Of the numbers {numbers}, the {most} is {answer}.",
        "The {most} of {numbers} is {answer}.",
        "Among {numbers}, no number is {more} than {answer}.",
    ),
)
def largest_number(rng: Random, level: int) -> Problem:
    numbers = _numbers(rng, level + 1, level)
    if rng.random() < 0.5:
        answer, (more, most) = max(numbers), rng.choice((("larger", "largest"), ("bigger", "biggest")))
    else:
        answer, (more, most) = min(numbers), rng.choice((("smaller", "smallest"), ("lower", "lowest")))
    if level == 1:
        most = more
    return problem(_order_key(numbers), answer, numbers=joined(numbers, ", "), more=more, most=most)


@family(
    "sort_numbers",
    kind="list",
    instructions=(
        "Sort these numbers from {direction}: {numbers}.",
        "Put the numbers {numbers} in order from {direction}.",
        "Arrange these numbers from {direction}.\n\n{numbers}",
        "Write the numbers in order, from {direction}.\n\n{numbers}",
        "What do you get when you sort {numbers} from {direction}?",
        "Order the list from {direction}.\n\n{numbers}",
        "List the numbers {numbers} again, but from {direction}.",
    ),
    questions=(
        "{numbers} from {direction}?",
        "In what order are {numbers}, from {direction}?",
        "sorted, {direction}|{numbers}",
        "The numbers sorted from {direction}|{numbers}",
    ),
    statements=(
        "Sorted from {direction}, {numbers} becomes {answer}.",
        "The numbers {numbers} in order from {direction} are {answer}.",
        "From {direction}: {answer}.",
        "If {numbers} is the list, then the order from {direction} is {answer}.",
    ),
)
def sort_numbers(rng: Random, level: int) -> Problem:
    numbers = _numbers(rng, level + 2, level)
    direction, reverse = rng.choice(
        (
            *(("smallest to largest", False), ("lowest to highest", False), ("small to large", False)),
            *(("largest to smallest", True), ("highest to lowest", True), ("large to small", True)),
        )
    )
    answer = joined(sorted(numbers, reverse=reverse), ", ")
    return problem(_order_key(numbers), answer, numbers=joined(numbers, ", "), direction=direction)


@family(
    "yes_no",
    kind="text",
    instructions=(
        "Is {n} {claim}?",
        "Is it true that {n} is {claim}?",
        "Say whether {n} is {claim}.",
        "Answer the question.\n\nIs {n} {claim}?",
        "Is this statement right?\n\n{n} is {claim}.",
        "Tell me if it is right that {n} is {claim}.",
        "Read the statement. Is it correct?\n\n{n} is {claim}.",
    ),
    questions=(
        "{n} is {claim}, or not?",
        "Can one say that {n} is {claim}?",
        "Would {n} be {claim}?",
        "{n} is {claim}. Right?",
        "yes or no|{n} is {claim}",
    ),
    statements=("{n} is {claim}? {answer}.", "Somebody says {n} is {claim}. {answer}.", "{n} is {truth}."),
    hints=("Answer yes or no.", "Reply with yes or no.", "Say only yes or no."),
)
def yes_no(rng: Random, level: int) -> Problem:
    a, b = _numbers(rng, 2, level)
    if rng.random() < 0.5:
        greater, less = rng.choice((("greater", "less"), ("larger", "smaller"), ("more", "less")))
        key, claims = _order_key((a, b)), (f"{greater} than {b}", f"{less} than {b}")
        truth = claims[0] if a > b else claims[1]
    else:
        key, claims = f"parity:{a}", ("an even number", "an odd number")
        truth = claims[a % 2]
    claim = rng.choice(claims)
    return problem(key, "Yes" if claim == truth else "No", n=a, claim=claim, truth=truth)


@family(
    "next_number",
    kind="number",
    instructions=(
        "What number comes next: {shown}?",
        "Which number follows in this sequence: {shown}?",
        "Continue the sequence {shown} with one more number.",
        "Find the next number.\n\n{shown}",
        "Look at the pattern and give the next number.\n\n{shown}",
        "The numbers {shown} follow a pattern. What is the next one?",
        "Complete the sequence with its next number.\n\n{shown}, ?",
    ),
    questions=(
        "{shown}, and then?",
        "What follows {shown}?",
        "{shown}: how does it go on?",
        "next after|{shown}",
        "The number after these|{shown}",
    ),
    statements=(
        "After {shown} comes {answer}.",
        "The sequence {shown} goes on with {answer}.",
        "{shown}, {answer}: each number is {step} {more} than the one before.",
        "In steps of {step}: {shown}, {answer}.",
    ),
)
def next_number(rng: Random, level: int) -> Problem:
    step = rng.randint(*{1: (1, 5), 2: (2, 12), 3: (6, 25)}[level])
    start = rng.randint(1, _HIGHEST[level] // 2)
    numbers = [start + step * i for i in range(5)]
    more = "more"
    if level > 1 and rng.random() < 0.4:
        numbers, more = numbers[::-1], "less"
    *shown, answer = numbers
    return problem(f"next:{joined(shown)}", answer, shown=joined(shown, ", "), step=step, more=more)


@family(
    "count_up",
    kind="list",
    instructions=(
        "Count from {first} to {last}{steps}.",
        "List the numbers from {first} to {last}{steps}.",
        "Write the numbers from {first} to {last}{steps}.",
        "Start at {first} and count to {last}{steps}.",
        "Which numbers do you say when you count from {first} to {last}{steps}?",
        "Count over this range.\n\nfrom {first} to {last}{steps}",
        "Write down every number of this count.\n\n{first} to {last}{steps}",
    ),
    questions=(
        "From {first} up or down to {last}{steps}?",
        "{first} to {last}{steps}, how does it go?",
        "counting, {first} to {last}{steps}",
        "Every number from {first} as far as {last}{steps}?",
    ),
    statements=(
        "Counting from {first} to {last}{steps} gives {answer}.",
        "From {first} to {last}{steps}: {answer}.",
        "To get from {first} to {last}{steps}, say {answer}.",
    ),
)
def count_up(rng: Random, level: int) -> Problem:
    step = 1 if level == 1 else rng.choice((1, 2, 5, 10))
    first, length = rng.randint(1, _HIGHEST[level]), rng.randint(3 + level, 5 + level)
    numbers = [first + step * i for i in range(length)]
    key = f"count:{joined(numbers)}"
    if level == 3 and rng.random() < 0.5:
        numbers.reverse()
    steps = {1: "", 2: " by twos", 5: " by fives", 10: " by tens"}[step]
    return problem(key, joined(numbers, ", "), first=numbers[0], last=numbers[-1], steps=steps)


@family(
    "number_rule",
    kind="text",
    instructions=(
        'If the number is {rule}, say "{yes}". Otherwise say "{no}". The number is {n}.',
        'Say "{yes}" if {n} is {rule} and "{no}" if it is not.',
        'Answer "{yes}" when the number is {rule}, otherwise answer "{no}".\n\n{n}',
        'Here is a rule: a number that is {rule} is called "{yes}", any other "{no}". What is {n} called?',
        'Use the rule: a number that is {rule} gets "{yes}" and all others get "{no}".\n\nThe number is {n}.',
        'Write "{yes}" for a number that is {rule} and "{no}" for any other number. The number is {n}.',
        'What do you say for {n}, if you say "{yes}" when a number is {rule} and "{no}" when it is not?',
    ),
    questions=(
        "{yes} means {rule}, {no} means not. And {n}?",
        "The sign is {yes} if {rule}, else {no}. What sign has {n}?",
        "{rule}: {yes}, all else: {no}|{n}",
        "Where {rule} gives {yes} and the rest {no}, what does {n} give?",
    ),
    statements=(
        "{name} says {yes} when a number is {rule} and {no} otherwise. For {n} {name} says {answer}.",
        "The rule is {yes} if the number is {rule}, otherwise {no}. The number is {n}, so it is {answer}.",
        "{n} is {fact}, so under the rule it is called {answer}.",
    ),
)
def number_rule(rng: Random, level: int) -> Problem:
    bound = 10 * rng.randint(1, _HIGHEST[level] // 5)
    n = rng.choice((rng.randint(2, bound - 1), rng.randint(bound + 1, 2 * bound)))
    yes, no = rng.sample(COLOURS, 2)
    if rng.random() < 0.5:
        rule = rng.choice(("even", "odd"))
        fact = "even" if n % 2 == 0 else "odd"
        key, holds = f"parity:{n}", rule == fact
    else:
        rule = rng.choice((f"greater than {bound}", f"less than {bound}"))
        fact = f"{'greater' if n > bound else 'less'} than {bound}"
        key, holds = _order_key((n, bound)), rule == fact
    answer = yes if holds else no
    return problem(key, answer, n=n, rule=rule, fact=fact, yes=yes, no=no, name=rng.choice(NAMES))
