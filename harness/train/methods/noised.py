"""Plain training, one-sided noise, and pairs: the cross-entropy of noised embeddings."""

from __future__ import annotations

from torch import Tensor

from harness.train.methods.base import Method, Piece, report


class Noised(Method):
    """loss = mean over the halves h of CE(f(X + e_h)), with one half (e = 0 for none) or the two of a pair.

    A pair goes through the model as 2B rows of one pass, or one half after the other (`EmbeddingNoise.pair_mode`).
    Sources: NEFTune 2310.05914 Algorithm 1; SymNoise 2312.01523 Algorithm 2.
    """

    def backward(self, piece: Piece) -> Tensor:
        halves = self.noise.noise.halves
        if halves == 1 or self.noise.pair_mode == "concat":
            return self._one_pass(piece, halves)
        losses = []
        for half in range(halves):
            self.noise.half(half)
            with self._alone(half == halves - 1):
                loss = self.objective(piece.batch)[0] / halves
                self._backward(loss, piece)
            losses.append(loss.detach())
        return report(piece, sum(losses[1:], losses[0]))

    def _one_pass(self, piece: Piece, halves: int) -> Tensor:
        loss = self.objective(piece.batch.repeat(halves) if halves > 1 else piece.batch)[0] / halves
        self._backward(loss, piece)
        return report(piece, loss)
