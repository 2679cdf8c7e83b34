"""Which examples are probed: held-out ones, those trained on, and builtin tasks of families never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.config import Config
from harness.data import Example
from harness.data.batching import Document
from harness.data.documents import load_documents, tokenizing_rules
from harness.data.tokenize import tokenize_examples
from harness.models.tokenizer import load_tokenizer
from harness.train.schedule import batch_at, matched_schedule, total_steps

UNSEEN = 32


@dataclass(frozen=True)
class Probed:
    """Documents to probe; the index of each is its position among the held-out, training or unseen examples."""

    heldout: list[Document]
    trained: list[Document]
    unseen: list[Document]


def probed_examples(config: Config) -> Probed:
    """The first held-out examples and the first of those that the run trained on.

    Held-out examples are the same in all runs on a data set. So are training examples if a run saw all of them; in a
    run of less than an epoch they are the first, in the data's order, among those that it saw.
    """
    data = load_documents(config.dataset, config.model)
    wanted = max(config.probe.overfitting_examples, config.probe.memorisation_examples)
    unseen = _unseen(config) if config.probe.overfitting_examples else []
    return Probed(
        heldout=data.heldout[: max(wanted, config.probe.examples)],
        trained=[data.train[index] for index in sorted(trained_on(config, len(data.train)))[:wanted]],
        unseen=tokenize_examples(
            unseen, load_tokenizer(config.model), rules=tokenizing_rules(config.dataset)
        ).documents,
    )


def trained_on(config: Config, count: int) -> set[int]:
    """Indices of the examples that the run's batches held, of `count` in the training set."""
    settings = config.train
    steps = total_steps(count, settings.batch_size, settings.epochs, settings.max_steps)
    planned = matched_schedule(count, settings.batch_size, steps, config.noise.cost.forwards, settings.budget)
    seen: set[int] = set()
    for step in range(planned.steps):
        if len(seen) == count:
            break
        seen.update(batch_at(step, count, planned.batch_size, config.seed))
    return seen


def _unseen(config: Config) -> Sequence[Example]:
    """Builtin tasks of families that no training set contains; none if the training data are not builtin."""
    if config.dataset.name != "builtin":
        return []
    from harness.data import builtin

    items = builtin.generate("unseen", UNSEEN, config.dataset.seed)
    return [Example(item.instruction, item.input, item.output, f"builtin {item.id}") for item in items]
