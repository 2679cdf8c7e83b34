"""Plain training, one-sided noise, and pairs: the cross-entropy of noised embeddings."""

from __future__ import annotations

from torch import Tensor

from harness.train.methods.base import Method, MicroBatch, report


class Noised(Method):
    """loss = mean over the halves h of CE(f(X + e_h)), with one half (e = 0 for none) or the two of a pair.

    A pair goes through the model as 2B rows of one pass, or one half after the other (train.pair_mode).
    Sources: NEFTune 2310.05914 Algorithm 1; SymNoise 2312.01523 Algorithm 2.
    """

    def backward(self, micro: MicroBatch) -> Tensor:
        halves = micro.noise.halves
        if halves == 1 or self.pair_mode == "concat":
            return self._one_pass(micro, halves)
        losses = []
        for half in range(halves):
            with self._alone(half == halves - 1):
                loss = self.objective(micro.batch, perturb=micro.noise.perturbation((half,)))[0] / halves
                self._backward(loss, micro)
            losses.append(loss.detach())
        return report(micro, sum(losses[1:], losses[0]))

    def _one_pass(self, micro: MicroBatch, halves: int) -> Tensor:
        batch = micro.batch.repeat(halves) if halves > 1 else micro.batch
        loss = self.objective(batch, perturb=micro.noise.perturbation(range(halves)))[0] / halves
        self._backward(loss, micro)
        return report(micro, loss)
