"""The interface between the training loop and what it does with a micro-batch.

B rows, T tokens of a row, D hidden size, N positions that have a target, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.data.batching import Batch
from harness.noise import EmbeddingNoise


@dataclass(frozen=True)
class Piece:
    """A micro-batch and its place in the optimiser step.

    Attributes:
        batch: on the device; `EmbeddingNoise.at` has been told of it.
        share: of each of its targets in the loss of the effective batch, 1 / targets of all ranks for the mean.
        last: the last of its step, with which ranks exchange gradients.
    """

    batch: Batch
    share: float
    last: bool


class Method(ABC):
    """How micro-batches become the gradient of one optimiser step; made once per training.

    Every method normalises as the plain loss does: a target counts `Piece.share`, in the cross-entropy and in a
    penalty, however the documents are packed and split.

    Attributes:
        purpose: the number in the noise's keys that keeps this method's draws apart; None: the noise's own.

    Args:
        accelerator: for the backward passes.
        objective: ResponseLoss as prepared by the accelerator.
        noise: attached to the model inside.
        settings: the method's own section of the config.
    """

    purpose: int | None = None

    def __init__(self, accelerator: Accelerator, objective: nn.Module, noise: EmbeddingNoise, settings: Any) -> None:
        self.accelerator, self.objective, self.noise, self.settings = accelerator, objective, noise, settings

    @abstractmethod
    def backward(self, piece: Piece) -> Tensor:
        """Add the micro-batch's part of the gradient to the parameters.

        Returns:
            (2,), detached: its part of the objective, and of that the penalty (0 where there is none).
        """

    def step(self, accumulate: Callable[[], Tensor]) -> Tensor:
        """One optimiser step's gradient; `accumulate` runs `backward` on each micro-batch and adds up its results."""
        return accumulate()

    def _loss(self, batch: Batch, added_BTD: Tensor | None) -> Tensor:
        """Summed cross-entropy of a pass with a given perturbation, None for a clean one."""
        with self.noise.adding(added_BTD):
            loss: Tensor = self.objective(batch)[0]
            return loss

    def _logits(self, batch: Batch, added_BTD: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, V) logits and (N,) targets of such a pass."""
        with self.noise.adding(added_BTD):
            logits_NV, targets_N = self.objective(batch, logits=True)
            return logits_NV, targets_N

    def _backward(self, loss: Tensor, piece: Piece) -> None:
        # Gradients are averaged over ranks; the share is of all ranks' targets already.
        self.accelerator.backward(loss * (piece.share * self.accelerator.num_processes))

    def _alone(self, last: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward pass that is not the last of its step: ranks exchange no gradients."""
        return nullcontext() if last else self.accelerator.no_sync(self.objective)


def report(piece: Piece, objective: Tensor, penalty: Tensor | float = 0.0) -> Tensor:
    """What `Method.backward` returns, from sums over the micro-batch's targets."""
    parts = [objective.detach(), torch.as_tensor(penalty, dtype=objective.dtype, device=objective.device).detach()]
    return torch.stack(parts) * piece.share
