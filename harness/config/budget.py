"""What a method costs, and how its batch size and steps follow from a budget: pure arithmetic, no tensors.

A method that forwards every document more than once (a pair, a regulariser) is compared with the baseline that
forwards it once, under the same train config. `budget` says what the two have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Budget = Literal["equal_steps", "equal_forward_rows", "equal_unique_examples"]


@dataclass(frozen=True)
class Cost:
    """Passes of one document through the model in one optimiser step.

    Attributes:
        forwards: forward passes; "rows forwarded" counts these.
        backwards: backward passes to the parameters.
        input_backwards: backward passes that stop at the embeddings and leave the parameters alone.
    """

    forwards: int = 1
    backwards: int = 1
    input_backwards: int = 0


def check_divisible(batch_size: int, forwards: int, budget: Budget) -> None:
    """Reject a batch that a budget cannot split into `forwards` equal parts.

    Raises:
        ValueError: names both keys.
    """
    if budget != "equal_steps" and batch_size % forwards:
        raise ValueError(
            f"train.batch_size={batch_size}: train.budget={budget} needs a multiple of {forwards}, "
            f"the rows that this noise forwards for each example"
        )
