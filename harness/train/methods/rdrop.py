"""R-Drop: two passes with different dropout must predict the same."""

from __future__ import annotations

from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.methods.divergence import cross_entropy, symmetric_kl


class RDrop(Method):
    """loss = 1/2 [CE(f1(X)) + CE(f2(X)) + weight * 1/2 (KL(f1 || f2) + KL(f2 || f1))].

    Liang et al. 2106.14448, Equations 2 to 4; f1 and f2 are the model under two draws of dropout, and weight is the
    paper's alpha.

    Deviations: halved, so that weight = 0 is the mean over two draws as in an independent pair, and the weight keeps
    the paper's meaning. Current language models have no dropout, so the penalty would be 0: the two draws are therefore
    those of the config's noise, by default embedding dropout at `rate`, on top of any dropout in the model.

    Cost: two forwards, two backwards, as one pass over 2B rows (regardless of train.pair_mode, since the
    penalty needs both halves in memory).
    """

    noise_stream = 2

    def backward(self, micro: MicroBatch) -> Tensor:
        logits_MV, targets_M = self.objective(
            micro.batch.repeat(2), perturb=micro.noise.perturbation((0, 1)), logits=True
        )
        penalty = self.settings.weight * symmetric_kl(*logits_MV.chunk(2)) / 4
        loss = cross_entropy(logits_MV, targets_M) / 2 + penalty
        self._backward(loss, micro)
        return report(micro, loss, penalty)
