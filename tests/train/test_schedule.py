"""Steps, batches and learning rates are functions of the step alone."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from harness.train.schedule import batch_at, lr_factor, total_steps


@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
@pytest.mark.parametrize(("total", "ratio"), [(100, 0.03), (7, 0.5), (10, 0.0)])
def test_learning_rate_equals_transformers(scheduler, total, ratio):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = -(-int(1e9 * ratio * total) // int(1e9))
    reference = get_scheduler(scheduler, optimizer, warmup, total)
    for step in range(total):
        assert lr_factor(step, total, ratio, scheduler) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_constant_rate_after_warm_up():
    assert [lr_factor(step, 4, 0.5, "constant") for step in range(4)] == [0.0, 0.5, 1.0, 1.0]


def test_an_epoch_holds_every_example_once_and_epochs_differ():
    epochs = [[index for step in range(4) for index in batch_at(4 * epoch + step, 10, 3, seed=7)] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert batch_at(5, 10, 3, seed=7) == batch_at(5, 10, 3, seed=7) != batch_at(5, 10, 3, seed=8)


def test_total_steps():
    assert total_steps(10, 3, 2.0, None) == 8
    assert total_steps(10, 3, 0.5, None) == 2
    assert total_steps(10, 3, 2.0, 5) == 5
