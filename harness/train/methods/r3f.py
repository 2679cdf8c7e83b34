"""R3F: predictions must not change under noise."""

from __future__ import annotations

from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report
from harness.train.methods.divergence import cross_entropy, symmetric_kl


class R3F(Method):
    """loss = CE(f(X)) + weight * KL_S(f(X), f(X + e)), KL_S(p, q) = KL(p || q) + KL(q || p).

    Aghajanyan et al. 2008.03156, Equations 5 to 7 (R3F; the spectral normalisation of R4F is left out). The
    gradient flows through both terms of KL_S. weight is the paper's lambda.

    Deviations: e is the noise of the config, alpha / sqrt(L d) u, where the paper has entries of one sigma (1e-5)
    whatever L and d; KL_S is summed over labelled positions and normalised like the cross-entropy. The authors'
    code detaches the embeddings of the noised pass; the equation does not, nor does this.

    Cost: two forwards, two backwards (of one graph). Dropout is redrawn in each pass, as in the authors' code.
    """

    noise_stream = 1

    def backward(self, micro: MicroBatch) -> Tensor:
        clean_NV, targets_N = self._logits(micro)
        noised_NV, _ = self.objective(micro.batch, perturb=micro.noise.perturbation(), logits=True)
        penalty = self.settings.weight * symmetric_kl(clean_NV, noised_NV)
        loss = cross_entropy(clean_NV, targets_N) + penalty
        self._backward(loss, micro)
        return report(micro, loss, penalty)
