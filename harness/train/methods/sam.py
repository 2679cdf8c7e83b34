"""SAM: the gradient at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.parallel import total_norm


class SAM(Method):
    """Steps along the gradient of L(w + e), e = rho g / ||g||_2, g = gradient of L(w).

    Foret et al. 2010.01412, Equations 2 and 3 with p = 2, the second-order term dropped as in the paper; ||g||_2
    is over all trainable weights together. rho is in units of weights, so alpha plays no role, and the embeddings get
    no noise. The reported loss is L(w).

    Deviations: g is the gradient of the whole effective batch over all ranks: m-sharpness in the paper's terms, with m
    the batch size (in its experiments m is the number of examples per accelerator).

    Cost: two forwards, two backwards; memory for one more copy of the trainable weights.
    """

    noise_stream = 6

    def backward(self, micro: MicroBatch) -> Tensor:
        loss: Tensor = self.objective(micro.batch, perturb=micro.noise.perturbation())[0]
        self._backward(loss, micro)
        return report(micro, loss)

    def step(self, accumulate: Callable[[], Tensor]) -> Tensor:
        losses = accumulate()
        weights = [weight for weight in self.objective.parameters() if weight.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        try:
            _climb(weights, self.settings.rho)
            accumulate()
        finally:
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)
        return losses


@torch.no_grad()
def _climb(weights: list[torch.nn.Parameter], rho: float) -> None:
    """Add rho g / ||g|| to the weights and clear their gradients."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = float(total_norm(gradients))
    for weight, gradient in zip(weights, gradients, strict=True):
        if norm > 0:
            weight.add_(gradient, alpha=rho / norm)
        weight.grad = None
