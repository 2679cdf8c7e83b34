"""Gradient and Hessian of each document's loss in its own embeddings, by products with vectors.

B documents, one a row; T tokens of a row, D hidden size. The loss of a row depends only on that row, so one
product with a (B, T, D) tensor is B products, one with each document's Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Losses = Callable[[Tensor], Tensor]  # (B, T, D) perturbation -> (B,) losses


@dataclass(frozen=True, eq=False)
class Expansion:
    """Second-order expansion of the losses around zero; keeps the graph of the first derivative alive.

    Attributes:
        gradient: (B, T, D), of each row's loss.
    """

    _at: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, losses: Losses, zeros_BTD: Tensor) -> Expansion:
        """One forward and one backward pass."""
        with torch.enable_grad():
            at_BTD = zeros_BTD.detach().clone().requires_grad_()
            (gradient_BTD,) = torch.autograd.grad(losses(at_BTD).sum(), at_BTD, create_graph=True)
        return cls(at_BTD, gradient_BTD)

    def times(self, vector_BTD: Tensor) -> Tensor:
        """Hv of each row, (B, T, D): one backward pass through the gradient (Pearlmutter 1994)."""
        if not self.gradient.requires_grad:  # a linear loss: its gradient is constant
            return torch.zeros_like(vector_BTD)
        (product_BTD,) = torch.autograd.grad(
            self.gradient, self._at, vector_BTD, retain_graph=True, materialize_grads=True
        )
        return product_BTD


def gradient_norms(expansion: Expansion) -> Tensor:
    """(B,) ||grad l||, nats per unit of embedding norm."""
    return expansion.gradient.detach().flatten(1).norm(dim=1)


def trace_samples(expansion: Expansion, signs: Sequence[Tensor]) -> Tensor:
    """(directions, B) values v'Hv for random signs v; their mean estimates tr H without bias (Hutchinson 1990)."""
    return torch.stack([_dots(each, expansion.times(each)) for each in signs])


def top_eigenvalues(expansion: Expansion, start_BTD: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """The eigenvalue of largest absolute value of each row's Hessian, by power iteration.

    Returns:
        (B,) Rayleigh quotients v'Hv of the last vectors, with their sign (a lower bound of the absolute value),
        and (B,) residuals ||Hv - lambda v|| / |lambda|: some eigenvalue is within this relative distance of lambda.
    """
    vector_BTD = _unit(start_BTD)
    for _ in range(iterations - 1):
        vector_BTD = _unit(expansion.times(vector_BTD))
    product_BTD = expansion.times(vector_BTD)
    values_B = _dots(vector_BTD, product_BTD)
    off_B = (product_BTD - values_B[:, None, None] * vector_BTD).flatten(1).norm(dim=1)
    return values_B, off_B / values_B.abs().clamp(min=torch.finfo(values_B.dtype).tiny)


def _dots(first_BTD: Tensor, second_BTD: Tensor) -> Tensor:
    return (first_BTD * second_BTD).flatten(1).sum(1)


def _unit(vector_BTD: Tensor) -> Tensor:
    norm_B = vector_BTD.flatten(1).norm(dim=1)
    return vector_BTD / norm_B.clamp(min=torch.finfo(norm_B.dtype).tiny)[:, None, None]
