"""Turning a problem into an instruction: template, opener and hint on the answer's form, drawn at random."""

from __future__ import annotations

from random import Random

from harness.data.builtin.core import Family, Kind, Problem

OPENER_SHARE = 0.2  # of the commands; questions take no opener
HINT_SHARE = 0.35  # where the form is not to be guessed (full sentences, a family's own hints) always

OPENERS = ("Please {}", "Now {}", "Could you do this? {}", "Here is a task. {}")
# fmt: off
_COMMANDS = {
    "Add", "Arrange", "Calculate", "Change", "Choose", "Complete", "Connect", "Continue", "Convert",
    "Copy", "Count", "Extract", "Find", "Format", "Give", "Group", "Join", "List", "Look", "Make",
    "Name", "Order", "Pick", "Put", "Read", "Repeat", "Replace", "Reverse", "Rewrite", "Say",
    "Separate", "Show", "Solve", "Sort", "Spell", "Start", "Subtract", "Take", "Tell", "Turn", "Use",
    "Work", "Write",
}
# fmt: on

HINTS: dict[Kind, tuple[str, ...]] = {
    "number": ("Give only the number.", "Answer with a number.", "Reply with the number and nothing else."),
    "text": ("Give only the answer.", "Reply with the answer and nothing else.", "No explanation is needed."),
    "exact": ("Give only the result.", "Write nothing but the result.", "Keep everything else as it is."),
    "list": ("Separate the items with commas.", "Use commas between the items.", "Give only the list."),
    "lines": ("Use one line for each item.", "Start a new line for each item.", "Write nothing else."),
    "json": ("Give only the JSON.", "Write the JSON and nothing else.", "Do not add any other text."),
    "sentence": ("Answer in a full sentence.", "Reply with a complete sentence.", "Use a full sentence."),
}


def render(rng: Random, family: Family, problem: Problem) -> tuple[str, str]:
    """Return (instruction, input) for the problem; the input is "" when the instruction holds everything."""
    instruction, _, input_text = rng.choice(family.instructions).partition("\n\n")
    if family.hints or family.kind == "sentence" or rng.random() < HINT_SHARE:
        instruction += " " + rng.choice(family.hints or HINTS[_form(family, problem)])
    if instruction.partition(" ")[0] in _COMMANDS and rng.random() < OPENER_SHARE:
        instruction = _opened(instruction, rng.choice(OPENERS))
    return instruction.format_map(problem.slots), input_text.format_map(problem.slots)


def _form(family: Family, problem: Problem) -> Kind:
    """The kind of answer to hint at: a list of one item is a text to whoever reads the question."""
    return "text" if family.kind == "list" and "," not in problem.answer else family.kind


def _opened(instruction: str, opener: str) -> str:
    if opener.startswith(("Please", "Now")):
        instruction = instruction[0].lower() + instruction[1:]
    return opener.format(instruction)
