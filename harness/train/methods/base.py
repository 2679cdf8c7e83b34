"""The interface between the training loop and the method applied to a micro-batch.

B rows, T tokens of a row, D hidden size, N positions that have a target, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.config import NoiseConfig
from harness.config.train import PairMode
from harness.data.batching import Batch
from harness.train.noise import BatchNoise


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch and its place in the optimiser step.

    Attributes:
        batch: the batch, on the device.
        noise: its noise in this step.
        share: weight of each of its targets in the loss of the effective batch: 1 / targets of all ranks for the mean.
        last: whether it is the last of its step, in which ranks exchange gradients.
    """

    batch: Batch
    noise: BatchNoise
    share: float
    last: bool


class Method(ABC):
    """How micro-batches become the gradient of one optimiser step; made once per training.

    Every method normalises like the plain loss: each target counts with `MicroBatch.share`, in the cross-entropy and in
    a penalty, however the documents are packed and split.

    Attributes:
        noise_stream: a number in the noise's keys that keeps this method's draws independent; None: the noise's own.

    Args:
        accelerator: runs the backward passes.
        objective: ResponseLoss as prepared by the accelerator.
        settings: the method's section of the config.
        pair_mode: how a pair goes through the model, see `TrainConfig`.
    """

    noise_stream: int | None = None

    def __init__(
        self, accelerator: Accelerator, objective: nn.Module, settings: Any, pair_mode: PairMode = "concat"
    ) -> None:
        self.accelerator, self.objective, self.settings = accelerator, objective, settings
        self.pair_mode = pair_mode

    @abstractmethod
    def backward(self, micro: MicroBatch) -> Tensor:
        """Add the micro-batch's part of the gradient to the parameters.

        Returns:
            (2,), detached: its part of the objective, and the penalty within that (0 if there is none).
        """

    def step(self, accumulate: Callable[[], Tensor]) -> Tensor:
        """Compute a step's gradient; `accumulate` runs `backward` on each micro-batch and sums the results."""
        return accumulate()

    def _logits(self, micro: MicroBatch, added_BTD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, V) logits and (N,) targets of a pass with a given perturbation, None for a clean one."""
        logits_NV, targets_N = self.objective(micro.batch, perturb=micro.noise.adding(added_BTD), logits=True)
        return logits_NV, targets_N

    def _backward(self, loss: Tensor, micro: MicroBatch) -> None:
        # Gradients are averaged over ranks, but the share already refers to all ranks' targets.
        self.accelerator.backward(loss * (micro.share * self.accelerator.num_processes))

    def _alone(self, last: bool) -> AbstractContextManager[Any]:
        """For a forward and backward pass that is not the last of its step: ranks exchange no gradients."""
        return nullcontext() if last else self.accelerator.no_sync(self.objective)


def method_of(
    config: NoiseConfig, accelerator: Accelerator, objective: nn.Module, pair_mode: PairMode = "concat"
) -> Method:
    """The method of a run, defined in the file of its name."""
    module = import_module(f"harness.train.methods.{config.method}")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Method) and each.__module__ == module.__name__
    )
    return found(accelerator, objective, config.settings, pair_mode)


def report(micro: MicroBatch, objective: Tensor, penalty: Tensor | float = 0.0) -> Tensor:
    """What `Method.backward` returns, from sums over the micro-batch's targets."""
    parts = [objective.detach(), torch.as_tensor(penalty, dtype=objective.dtype, device=objective.device).detach()]
    return torch.stack(parts) * micro.share
