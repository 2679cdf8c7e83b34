"""Virtual adversarial training: predictions must not change in the direction in which they would change most."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.methods.divergence import cross_entropy, kl
from harness.train.methods.perturbation import norms, rescale


class VAT(Method):
    """loss = CE(f(X)) + weight * KL(stopped f(X) || f(X + r)), ||r||_F = alpha.

    Miyato et al. 1704.03976, Equations 5 to 8 and Algorithm 1. r has the direction d found by `steps` power
    iterations from a random one:

        d <- g / ||g||_F,   g = gradient by r of KL(f(X) || f(X + r)) at r = xi d

    The curvature of KL at r = 0 is what moves d towards its first eigenvector. weight is the paper's alpha (1), alpha
    its epsilon. f(X) in the penalty is a constant: no gradient.

    Deviations: norms are per document, over the embeddings of all its tokens. xi = probe * alpha, by default
    0.01 alpha and not the paper's 1e-6: in float32 the difference of such close predictions is rounding error. All
    passes of a micro-batch use the same dropout mask (the penalty is for r alone). The paper's unlabelled data are not
    used.

    Cost: 2 + steps forwards, two backwards, `steps` backwards to the embeddings only.
    """

    noise_stream = 4

    def backward(self, micro: MicroBatch) -> Tensor:
        dropout = int(torch.randint(2**62, ()))
        torch.manual_seed(dropout)
        clean_NV, targets_N = self._logits(micro)
        adversarial_BTD = self._adversarial(micro, clean_NV.detach(), dropout)
        torch.manual_seed(dropout)
        moved_NV, _ = self._logits(micro, adversarial_BTD)
        penalty = self.settings.weight * kl(clean_NV.detach(), moved_NV)
        loss = cross_entropy(clean_NV, targets_N) + penalty
        self._backward(loss, micro)
        return report(micro, loss, penalty)

    def _adversarial(self, micro: MicroBatch, clean_NV: Tensor, dropout: int) -> Tensor:
        """r, (B, T, D)."""
        batch, alpha = micro.batch, micro.noise.alpha
        direction_BTD = micro.noise.draw()
        for _ in range(self.settings.steps):
            torch.manual_seed(dropout)
            probe_BTD = rescale(direction_BTD, self.settings.probe * alpha, norms(direction_BTD, batch), batch)
            logits_NV, _ = self._logits(micro, probe_BTD.requires_grad_())
            (direction_BTD,) = torch.autograd.grad(kl(clean_NV, logits_NV), probe_BTD)
        return rescale(direction_BTD, alpha, norms(direction_BTD, batch), batch)
