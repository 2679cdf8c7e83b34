"""Budgets: what each holds constant, as arithmetic and in the metrics of a run; FLOPs by hand."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import folder_of
from support.tiny_models import tiny_model

from harness.config.budget import Cost
from harness.pipeline.runner import execute
from harness.record.identity import run_id
from harness.train.cost import ModelSize, flops, squared_lengths
from harness.train.schedule import Schedule, batch_at, documents_seen, matched_schedule, unique_examples

SCHEDULES = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 30), st.integers(1, 4))


def batches(examples: int, batch_size: int, steps: int) -> list[list[int]]:
    return [batch_at(step, examples, batch_size, seed=0) for step in range(steps)]


def test_the_table_of_the_docstring():
    # 40 examples in batches of 8: an epoch is 5 steps, 15 steps are 3 epochs.
    assert matched_schedule(40, 8, 15, 2, "equal_steps") == Schedule(8, 15)
    assert matched_schedule(40, 8, 15, 2, "equal_forward_rows") == Schedule(4, 15)
    assert matched_schedule(40, 8, 15, 2, "equal_unique_examples") == Schedule(4, 30)
    assert matched_schedule(40, 9, 15, 3, "equal_unique_examples") == Schedule(3, 42)  # 3 epochs of ceil(40 / 3) steps


@pytest.mark.parametrize("budget", ["equal_steps", "equal_forward_rows", "equal_unique_examples"])
def test_a_single_pass_is_the_baseline_in_every_budget(budget):
    assert matched_schedule(10, 3, 7, 1, budget) == Schedule(3, 7)


@given(SCHEDULES)
def test_equal_unique_examples_sees_the_same_documents_in_the_same_order(numbers):
    examples, smaller, steps, forwards = numbers
    paired = matched_schedule(examples, smaller * forwards, steps, forwards, "equal_unique_examples")
    ours, baseline = (
        batches(examples, *each) for each in ((paired.batch_size, paired.steps), (smaller * forwards, steps))
    )
    assert list(chain(*ours)) == list(chain(*baseline))
    assert max(map(len, ours)) * forwards <= smaller * forwards  # never more rows in a step


@given(SCHEDULES)
def test_equal_forward_rows_keeps_steps_and_rows(numbers):
    examples, smaller, steps, forwards = numbers
    batch_size = smaller * forwards
    paired = matched_schedule(examples, batch_size, steps, forwards, "equal_forward_rows")
    rows = forwards * documents_seen(paired.steps, examples, paired.batch_size)
    baseline = documents_seen(steps, examples, batch_size)
    epochs = -(-steps * batch_size // examples)
    assert paired.steps == steps
    assert abs(rows - baseline) < batch_size * epochs or rows == baseline
    if examples % batch_size == 0:
        assert rows == baseline


@given(SCHEDULES)
def test_documents_and_unique_examples_are_those_of_the_batches(numbers):
    examples, batch_size, steps, _ = numbers
    seen = list(chain(*batches(examples, batch_size, steps)))
    assert documents_seen(steps, examples, batch_size) == len(seen)
    assert unique_examples(steps, examples, batch_size) == len(set(seen))


def test_a_batch_that_cannot_be_cut_is_refused_before_the_run(compose):
    with pytest.raises(ValueError, match=r"^train.batch_size=5: train.budget=equal_forward_rows needs a multiple of 2"):
        compose("noise=symnoise", "train.batch_size=5", "train.budget=equal_forward_rows")
    assert compose("noise=neftune", "train.batch_size=5", "train.budget=equal_forward_rows").train.batch_size == 5


def test_the_budget_is_part_of_the_identity_of_methods_that_forward_more_than_once_only(compose):
    budgets = ("equal_steps", "equal_forward_rows", "equal_unique_examples")
    for noise, runs in (("neftune", 1), ("symnoise", 3), ("sam", 3)):
        assert len({run_id(compose(f"noise={noise}", f"train.budget={budget}")) for budget in budgets}) == runs


def test_flops_by_hand():
    size = ModelSize(parameters=10, trainable=10, attention=3)
    assert squared_lengths([2, 3]) == 13
    assert flops(size, Cost(), tokens=5, squares=0) == 6 * 10 * 5
    assert flops(size, Cost(), tokens=5, squares=13) == 6 * 10 * 5 + 12 * 3 * 13
    assert flops(size, Cost(2, 2), tokens=5, squares=13) == 2 * (6 * 10 * 5 + 12 * 3 * 13)
    # A backward pass to the embeddings only spares the parameters' 2 N; forwards are 2 N.
    assert flops(size, Cost(3, 2, 1), tokens=5, squares=0) == (3 * 2 + 2 * 4 + 1 * 2) * 10 * 5
    assert flops(ModelSize(10, 0, 0), Cost(), tokens=5, squares=0) == 4 * 10 * 5


def test_size_counts_the_head_and_not_the_input_embedding():
    layers = {"tied": 0, "untied": 0}
    for name, tied in (("tied", True), ("untied", False)):
        model = tiny_model("llama", tie_word_embeddings=tied)
        size, table = ModelSize.of(model), model.get_input_embeddings().weight.numel()
        assert size.parameters == size.trainable == sum(p.numel() for p in model.model.parameters()) - table + table
        assert size.attention == 2 * 4 * 8  # layers, heads, head width
        layers[name] = size.parameters
    assert layers["tied"] == layers["untied"]
    model.model.requires_grad_(False)
    assert ModelSize.of(model).trainable == table


@pytest.mark.parametrize(
    ("budget", "batch", "steps", "documents"),
    [("equal_steps", 4, 4, 16), ("equal_forward_rows", 2, 4, 8), ("equal_unique_examples", 2, 8, 16)],
)
def test_a_run_logs_what_its_budget_says(budget, batch, steps, documents, compose):
    sizes = ("hidden_size=16", "layers=1", "heads=2", "intermediate_size=16")
    config = compose(
        *("noise=symnoise", f"train.budget={budget}", "train.batch_size=4", "train.epochs=2", "train.log_every=1"),
        *(
            "model=tiny",
            "dataset.size=8",
            "dataset.heldout=1",
            "stages=[train]",
            *(f"model.architecture.{size}" for size in sizes),
        ),
    )
    final = execute(config)["final"]
    rows = folder_of(config).metrics()
    assert len(rows) == steps
    assert (rows[0]["train/documents"], rows[0]["train/rows"]) == (batch, 2 * batch)
    assert (final["train/documents"], final["train/rows"]) == (documents, 2 * documents)
    assert [row["train/unique_examples"] for row in rows] == [min(8, batch * step) for step in range(1, steps + 1)]
    assert final["train/unique_examples"] == 8
    per_token = [row["train/flops"] / row["train/tokens"] for row in rows]
    size = 3 * 16 * 16 + 16 * 16 + 3 * 16 * 16  # projections and feed-forward layer; norms and head besides
    assert all(each > 6 * size for each in per_token)
