"""R-Drop: two passes with different dropout shall predict the same."""

from __future__ import annotations

from torch import Tensor

from harness.train.methods.base import Method, Piece, report
from harness.train.methods.divergence import cross_entropy, symmetric_kl


class RDrop(Method):
    """loss = 1/2 [CE(f1(X)) + CE(f2(X)) + weight * 1/2 (KL(f1 || f2) + KL(f2 || f1))].

    Liang et al. 2106.14448, Equations 2 to 4; f1 and f2 are the model under two draws of dropout, and weight is the
    paper's alpha.

    Deviations: halved, so that weight = 0 is the mean over two draws as in an independent pair, and the weight keeps
    the paper's meaning. Current language models have no dropout (with it the penalty would be 0): the two draws are
    those of the config's noise, by default embedding dropout at `rate`, besides whatever dropout the model has.

    Cost: two forwards, two backwards, as one pass over 2B rows (whatever train.pair_mode says: the penalty
    needs both halves in memory).
    """

    purpose = 2

    def backward(self, piece: Piece) -> Tensor:
        logits_MV, targets_M = self.objective(piece.batch.repeat(2), logits=True)
        penalty = self.settings.weight * symmetric_kl(*logits_MV.chunk(2)) / 4
        loss = cross_entropy(logits_MV, targets_M) / 2 + penalty
        self._backward(loss, piece)
        return report(piece, loss, penalty)
