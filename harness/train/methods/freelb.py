"""FreeLB: adversarial training whose ascent steps all count as training."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.train.methods.base import Method, Piece, report
from harness.train.methods.perturbation import into_ball, norms, of_length


class FreeLB(Method):
    """loss = 1/K sum over t < K of CE(f(X + delta_t)), with delta going uphill meanwhile.

        delta_0 = alpha / sqrt(L d) u
        delta_t = P(delta_(t-1) + step_size alpha g / ||g||_F),   g = gradient of CE(f(X + delta_(t-1))) by delta

    P projects to ||delta||_F <= alpha. Zhu et al. 1909.11764, Algorithm 1: alpha is the paper's epsilon,
    step_size * alpha its alpha, `steps` its K. Norms and projections are each document's own.

    Deviations: step_size is a share of the radius, so that alpha scales the whole method and 0 is plain
    training. As in the paper (Section 3.3) all passes of a micro-batch drop the same units.

    Cost: K forwards, K backwards, one after the other: the memory of plain training and one more embedding output.
    """

    purpose = 3

    def backward(self, piece: Piece) -> Tensor:
        steps, alpha = self.settings.steps, self.noise.alpha
        dropout = int(torch.randint(2**62, ()))
        delta_BTD = self.noise.draw()
        total = torch.zeros((), dtype=delta_BTD.dtype, device=delta_BTD.device)
        for step in range(steps):
            torch.manual_seed(dropout)
            delta_BTD = delta_BTD.detach().requires_grad_()
            with self._alone(step == steps - 1):
                loss = self._loss(piece.batch, delta_BTD) / steps
                self._backward(loss, piece)
            total += loss.detach()
            gradient_BTD = delta_BTD.grad
            assert gradient_BTD is not None
            uphill = of_length(
                gradient_BTD, self.settings.step_size * alpha, norms(gradient_BTD, piece.batch), piece.batch
            )
            delta_BTD = into_ball(delta_BTD.detach() + uphill, alpha, piece.batch)
        return report(piece, total)
