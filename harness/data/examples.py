"""What every data set becomes: examples to train on and instructions to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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
    """One instruction to answer.

    Attributes:
        instruction: what is asked, after everything in `history`.
        input: Alpaca's further context of the instruction; "" for none.
        family: AlpacaEval's `dataset`, a category.
        reference: the answer to compare with.
        generator: who gave it; "" where there is none.
        checkable: a builtin task, whose answers are right or wrong.
        groups: those in which its accuracy counts, too.
        history: earlier exchanges of the conversation, each (user, assistant).
        system: the conversation's own system message; "" for none.
        follows: place, among the instructions, of the question before this one in a conversation of several turns:
            its own answer goes before; None for none.
        earlier: the questions of that conversation so far.
        checks: what an answer must follow, (id of the instruction, its arguments): IFEval and IFBench.
    """

    instruction: str
    input: str
    family: str
    reference: str
    generator: str
    checkable: bool = False
    groups: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    system: str = ""
    follows: int | None = None
    earlier: tuple[str, ...] = ()
    checks: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def text(self) -> str:
        """What a judge reads, in one text: as AlpacaEval's files hold it, or the whole conversation."""
        asked = with_input(self.instruction, self.input)
        if self.earlier:
            return turns("Question", [*self.earlier, asked])
        if not self.history and not self.system:
            return asked
        said = [("System", self.system)] * bool(self.system)
        said += [part for user, answer in self.history for part in (("User", user), ("Assistant", answer))]
        return "\n\n".join(f"{who}: {text}" for who, text in [*said, ("User", asked)])


def turns(what: str, texts: Sequence[str]) -> str:
    """Questions or answers of several turns as one text: "Question 1:", "Question 2:"."""
    return "\n\n".join(f"{what} {number}:\n{text}" for number, text in enumerate(texts, start=1))


def with_input(instruction: str, input_text: str) -> str:
    """Instruction and input as one message, for templates without a place for an input."""
    return f"{instruction}\n\n{input_text}" if input_text else instruction
