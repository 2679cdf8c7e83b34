"""What every data set becomes: examples to train on and instructions to answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction with its answer, or a conversation; `where` names file and row for error messages.

    Attributes:
        instruction: the first user message.
        input: Alpaca's further context of the instruction; "" for none.
        output: the answer to it.
        where: "FILE: row N".
        system: the conversation's own system message; "" for none.
        more: the later exchanges of a conversation, each (user, assistant).
        unlearnt: places of exchanges whose answers are given, not learnt (weight 0 in the file).
    """

    instruction: str
    input: str
    output: str
    where: str
    system: str = ""
    more: tuple[tuple[str, str], ...] = ()
    unlearnt: tuple[int, ...] = ()

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """All exchanges, (user, assistant); the input, if any, stands below the instruction."""
        return [(with_input(self.instruction, self.input), self.output), *self.more]

    @property
    def learnt(self) -> bool:
        """Whether any answer is learnt."""
        return len(self.unlearnt) <= len(self.more)

    @property
    def content(self) -> tuple[str | tuple[tuple[str, str], ...], ...]:
        """The whole text: equal for examples that differ in nothing but their place."""
        return self.instruction, self.input, self.output, self.system, self.more


@dataclass(frozen=True)
class EvalItem:
    """One instruction to answer. `family` is AlpacaEval's `dataset`; `reference` the answer to compare with.

    `checkable`: a builtin task, whose answers are right or wrong. `groups`: those in which its accuracy counts, too.
    """

    instruction: str
    input: str
    family: str
    reference: str
    generator: str
    checkable: bool = False
    groups: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The instruction as AlpacaEval's files hold it: the input, if any, below the instruction."""
        return with_input(self.instruction, self.input)


def with_input(instruction: str, input_text: str) -> str:
    """Both as one message, where a template has no place for an input."""
    return f"{instruction}\n\n{input_text}" if input_text else instruction
