"""What a method costs, and how its batch size and steps follow from a budget: pure arithmetic, no tensors.

A method that forwards every document more than once (a pair, a regulariser) is compared with the baseline that
forwards it once, under the same train config. `budget` says what the two have in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from harness.train.schedule import steps_per_epoch

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


@dataclass(frozen=True)
class Plan:
    """Documents per optimiser step (over all devices and micro-batches), and optimiser steps."""

    batch_size: int
    steps: int


def plan(examples: int, batch_size: int, steps: int, forwards: int, budget: Budget) -> Plan:
    """Batch size and steps of a method with k = `forwards` rows per document, against the baseline with one.

    The baseline takes S = `steps` steps of B = `batch_size` documents: B rows a step, S B rows in all.

    =====================  ============  =====  =========  ========  ==========  ===============
    budget                 documents/    steps  rows/step  rows      documents   equal to the
                           step                            in all    in all      baseline
    =====================  ============  =====  =========  ========  ==========  ===============
    equal_steps            B             S      k B        k S B     S B         steps, documents of every
                                                                                 step, epochs
    equal_forward_rows     B / k         S      B          S B       S B / k     steps, rows of every step,
                                                                                 rows in all: compute
    equal_unique_examples  B / k         k S    B          k S B     S B         rows of every step,
                                                                                 documents, epochs
    =====================  ============  =====  =========  ========  ==========  ===============

    equal_steps gives the method k times the compute (the papers' comparison: batches of 2B rows).
    equal_forward_rows gives it the baseline's compute and 1/k of the epochs. equal_unique_examples gives it the
    same documents in the same order, in smaller portions: k times the compute and the updates. With k = 1 all three
    are the baseline. The learning rate stays as configured; warm-up and decay stretch with the steps.

    Where B does not divide `examples`, the last batch of an epoch is smaller. equal_unique_examples still sees
    exactly the baseline's documents (its steps are then a few less than k S); equal_forward_rows keeps the steps, and
    its rows differ from the baseline's by less than B an epoch.

    Args:
        examples: in the training set.
        batch_size, steps: of the baseline.

    Raises:
        ValueError: B / k is no whole number.
    """
    if budget == "equal_steps" or forwards == 1:
        return Plan(batch_size, steps)
    check_divisible(batch_size, forwards, budget)
    smaller = batch_size // forwards
    if budget == "equal_forward_rows":
        return Plan(smaller, steps)
    epochs, rest = divmod(steps, steps_per_epoch(examples, batch_size))
    return Plan(smaller, epochs * steps_per_epoch(examples, smaller) + rest * forwards)


def check_divisible(batch_size: int, forwards: int, budget: Budget) -> None:
    """Refuse a batch that a budget cannot cut into `forwards` equal parts.

    Raises:
        ValueError: names both keys.
    """
    if budget != "equal_steps" and batch_size % forwards:
        raise ValueError(
            f"train.batch_size={batch_size}: train.budget={budget} needs a multiple of {forwards}, "
            f"the rows that this noise forwards for each example"
        )


@dataclass(frozen=True)
class ModelSize:
    """What the FLOPs of a model follow from.

    Attributes:
        parameters: all that take part in matrix products: without the input embedding, with the head (a tied
            one once). Position tables and vectors are too small to be taken out.
        trainable: those of them that get a gradient.
        attention: layers x width of the queries; 0 without attention.
    """

    parameters: int
    trainable: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> ModelSize:
        """Read from a causal language model, before it is sharded."""
        table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        used = [each for each in model.parameters() if each is not table or each is head]
        config = model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 0
        width = heads * (getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0))
        return cls(
            sum(_numbers(each) for each in used),
            sum(_numbers(each) for each in used if each.requires_grad),
            getattr(config, "num_hidden_layers", 0) * width,
        )


def _numbers(parameter: Any) -> int:
    """Weights in a parameter; bitsandbytes packs two of 4 bits into one."""
    count: int = parameter.numel()
    return 2 * count if type(parameter).__name__ == "Params4bit" and parameter.element_size() == 1 else count


def flops(size: ModelSize, cost: Cost, tokens: int, squares: int) -> int:
    """Floating-point operations of one optimiser step, estimated.

    A token costs 2 N forward, 2 N backward to the activations and 2 N more to the parameters: 6 N for plain training
    (Kaplan et al. 2001.08361, Section 2.1), and less for the frozen ones. Attention adds
    4 x layers x width x L for a token in a document of L tokens forward and twice that backward, causal or not
    (Chowdhery et al. 2204.02311, Appendix B). Counted are real tokens: no padding, no recomputation under gradient
    checkpointing, and the head at every token although it runs at the labelled ones only.

    Args:
        tokens: in the documents of the step, each document once.
        squares: sum of L^2 over these documents.
    """
    forward = 2 * size.parameters * tokens + 4 * size.attention * squares
    inputs = 2 * size.parameters * tokens + 8 * size.attention * squares
    parameters = 2 * size.trainable * tokens
    return cost.forwards * forward + (cost.backwards + cost.input_backwards) * inputs + cost.backwards * parameters


def squared_lengths(lengths: Iterable[int]) -> int:
    """Sum of L^2 over documents of these lengths."""
    return sum(length * length for length in lengths)
