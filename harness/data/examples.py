"""What every data set becomes: examples to train on and instructions to answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction with its answer, or a conversation; `where` names file and row for error messages.

    Attributes:
        instruction: the first user message.
        input: Alpaca's additional input; "" for none.
        output: the answer to it.
        where: "FILE: row N".
        system: the conversation's own system message; "" for none.
        more: the later exchanges of a conversation, each (user, assistant).
        unlearnt: indices of exchanges whose answers are given but not learnt (weight 0 in the file).
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
        """All exchanges, (user, assistant); the input, if any, follows the instruction."""
        return [(with_input(self.instruction, self.input), self.output), *self.more]

    @property
    def learnt(self) -> bool:
        """Whether any answer is learnt."""
        return len(self.unlearnt) <= len(self.more)

    @property
    def content(self) -> tuple[str | tuple[tuple[str, str], ...], ...]:
        """The whole text: equal for examples that differ only in where they come from."""
        return self.instruction, self.input, self.output, self.system, self.more


@dataclass(frozen=True)
class EvalItem:
    """One instruction to answer. `family` is AlpacaEval's `dataset`; `reference` the answer to compare with.

    `checkable`: a builtin task, whose answers are right or wrong. `groups`: groups for which accuracy is reported.
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
        """The instruction as in AlpacaEval's files: followed by the input, if any."""
        return with_input(self.instruction, self.input)


def with_input(instruction: str, input_text: str) -> str:
    """Instruction and input as one message, for templates without a place for an input."""
    return f"{instruction}\n\n{input_text}" if input_text else instruction
