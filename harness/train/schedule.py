"""What happens at which step, as pure functions of the step: a resumed run needs no extra state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.config.budget import Budget, check_divisible


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimiser steps of one pass over the data; the last may hold fewer examples."""
    return math.ceil(examples / batch_size)


def total_steps(examples: int, batch_size: int, epochs: float | None, max_steps: int | None) -> int:
    """Optimiser steps of the whole training; max_steps wins over epochs."""
    if max_steps is not None:
        return max_steps
    assert epochs is not None
    return max(1, round(epochs * steps_per_epoch(examples, batch_size)))


def documents_seen(steps: int, examples: int, batch_size: int) -> int:
    """Documents trained on in the first `steps` steps, counting repeats."""
    epochs, rest = divmod(steps, steps_per_epoch(examples, batch_size))
    return epochs * examples + rest * batch_size


def unique_examples(steps: int, examples: int, batch_size: int) -> int:
    """Distinct documents among those of the first `steps` steps: an epoch repeats none."""
    return min(examples, documents_seen(steps, examples, batch_size))


def batch_at(step: int, examples: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of step `step` (from 0): a fresh permutation each epoch, keyed by (seed, epoch)."""
    import numpy as np  # here, because the schema imports this file and the command line starts with the schema

    epoch, position = divmod(step, steps_per_epoch(examples, batch_size))
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(examples)
    return [int(index) for index in order[position * batch_size : (position + 1) * batch_size]]


def lr_factor(step: int, total: int, warmup_ratio: float, scheduler: str) -> float:
    """Learning rate of step `step` (from 0) as a fraction of its peak.

    Linear warm-up over ceil(warmup_ratio x total) steps, then cosine to 0, linear to 0, or constant: equal to
    transformers.get_scheduler's, so the first step of a warm-up has rate 0.
    """
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0 - progress if scheduler == "linear" else 1.0


@dataclass(frozen=True)
class Schedule:
    """Documents per optimiser step (over all devices and micro-batches), and optimiser steps."""

    batch_size: int
    steps: int


def matched_schedule(examples: int, batch_size: int, steps: int, forwards: int, budget: Budget) -> Schedule:
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
        return Schedule(batch_size, steps)
    check_divisible(batch_size, forwards, budget)
    smaller = batch_size // forwards
    if budget == "equal_forward_rows":
        return Schedule(smaller, steps)
    epochs, rest = divmod(steps, steps_per_epoch(examples, batch_size))
    return Schedule(smaller, epochs * steps_per_epoch(examples, smaller) + rest * forwards)
