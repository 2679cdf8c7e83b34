"""FreeLB: adversarial training whose ascent steps all count as training."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.methods.perturbation import norms, project, rescale


class FreeLB(Method):
    """loss = 1/K sum over t < K of CE(f(X + delta_t)), while delta ascends.

        delta_0 = alpha / sqrt(L d) u
        delta_t = P(delta_(t-1) + step_size alpha g / ||g||_F),   g = gradient of CE(f(X + delta_(t-1))) by delta

    P projects to ||delta||_F <= alpha. Zhu et al. 1909.11764, Algorithm 1: alpha is the paper's epsilon,
    step_size * alpha its alpha, `steps` its K. Norms and projections are per document.

    Deviations: step_size is a fraction of the radius, so that alpha scales the whole method and 0 is plain training.
    As in the paper (Section 3.3), all passes of a micro-batch use the same dropout mask.

    Cost: K forwards, K backwards, one after the other: the memory of plain training and one more embedding output.
    """

    noise_stream = 3

    def backward(self, micro: MicroBatch) -> Tensor:
        steps, alpha = self.settings.steps, micro.noise.alpha
        dropout = int(torch.randint(2**62, ()))
        delta_BTD = micro.noise.draw()
        total = torch.zeros((), dtype=delta_BTD.dtype, device=delta_BTD.device)
        for step in range(steps):
            torch.manual_seed(dropout)
            delta_BTD = delta_BTD.detach().requires_grad_()
            with self._alone(step == steps - 1):
                loss = self.objective(micro.batch, perturb=micro.noise.adding(delta_BTD))[0] / steps
                self._backward(loss, micro)
            total += loss.detach()
            gradient_BTD = delta_BTD.grad
            assert gradient_BTD is not None
            uphill = rescale(
                gradient_BTD, self.settings.step_size * alpha, norms(gradient_BTD, micro.batch), micro.batch
            )
            delta_BTD = project(delta_BTD.detach() + uphill, alpha, micro.batch)
        return report(micro, total)
