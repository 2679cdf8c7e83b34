"""SMART: predictions must be smooth in the worst direction within a box."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.methods.divergence import cross_entropy, symmetric_kl
from harness.train.methods.perturbation import largest, linf_radius, per_token, rescale, scaled


class SMART(Method):
    """loss = CE(f(X)) + weight * max over |delta_ij| <= epsilon of KL_S(f(X), f(X + delta)).

    Jiang et al. 1911.03437, Equations 1 and 2, Algorithm 1 lines 4 to 8; KL_S(p, q) = KL(p || q) + KL(q || p), with
    a gradient through both predictions. The maximum is approximated by `steps` projected ascent steps from
    delta = start epsilon g, g standard normal:

        delta <- clip(delta + step_size epsilon g / ||g||_inf, -epsilon, epsilon),   g = gradient of KL_S by delta

    weight is the paper's lambda_s, steps its T, epsilon = alpha / sqrt(L d) with the document's own L: the
    corners of the box have norm alpha, the norm of random signs.

    Deviations: the paper's epsilon is one number. step_size and start are fractions of epsilon; the defaults are
    eta / epsilon = 100 and sigma / epsilon = 1, so that all but the smallest entries of g end at the boundary
    (docs/regularisers.md has their sources). All passes of a micro-batch use the same dropout mask. The second half of
    SMART, Bregman proximal point optimisation, is left out, as in the authors' release: it concerns steps in weight
    space and needs a second copy of the weights.

    Cost: 2 + steps forwards, two backwards, `steps` backwards to the embeddings only.
    """

    noise_stream = 5

    def backward(self, micro: MicroBatch) -> Tensor:
        dropout = int(torch.randint(2**62, ()))
        torch.manual_seed(dropout)
        clean_NV, targets_N = self._logits(micro)
        delta_BTD = self._adversarial(micro, clean_NV.detach(), dropout)
        torch.manual_seed(dropout)
        moved_NV, _ = self._logits(micro, delta_BTD)
        penalty = self.settings.weight * symmetric_kl(clean_NV, moved_NV)
        loss = cross_entropy(clean_NV, targets_N) + penalty
        self._backward(loss, micro)
        return report(micro, loss, penalty)

    def _adversarial(self, micro: MicroBatch, clean_NV: Tensor, dropout: int) -> Tensor:
        """delta, (B, T, D)."""
        batch = micro.batch
        delta_BTD = micro.noise.draw() * self.settings.start
        radius_n = linf_radius(micro.noise.alpha, batch, delta_BTD.shape[-1], delta_BTD)
        bound_BT1 = per_token(radius_n, batch)
        for _ in range(self.settings.steps):
            torch.manual_seed(dropout)
            delta_BTD.requires_grad_()
            logits_NV, _ = self._logits(micro, delta_BTD)
            (gradient_BTD,) = torch.autograd.grad(symmetric_kl(clean_NV, logits_NV), delta_BTD)
            uphill_BTD = rescale(gradient_BTD, self.settings.step_size, largest(gradient_BTD, batch), batch)
            delta_BTD = (delta_BTD.detach() + scaled(uphill_BTD, radius_n, batch)).clamp(-bound_BT1, bound_BT1)
        return delta_BTD.detach()
