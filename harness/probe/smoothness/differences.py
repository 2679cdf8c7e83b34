"""How loss and predictions change from X to X + e and X - e.

B documents, one a row; N positions that have a target, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.probe.smoothness.surface import Predictions


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Predictions with what every measure needs of them.

    Attributes:
        log_p: (N, V), log-probabilities.
        centred: (N, V), logits less their mean over the vocabulary, which no probability depends on.
        losses: (N,), cross-entropies, nats.
        best: (N,), the most probable tokens.
    """

    log_p: Tensor
    centred: Tensor
    losses: Tensor
    best: Tensor

    @classmethod
    def of(cls, predictions: Predictions) -> Perturbed:
        logits = predictions.logits
        log_NV = logits.log_softmax(1)
        losses_N = -log_NV.gather(1, predictions.targets[:, None]).squeeze(1)
        return cls(log_NV, logits - logits.mean(1, keepdim=True), losses_N, logits.argmax(1))


@torch.no_grad()
def differences(clean: Predictions, plus: Predictions, minus: Predictions, norm_B: Tensor) -> dict[str, Tensor]:
    """Measures along one direction at one radius, (B,) each; |e| is `norm_B`, l the mean loss of a document.

    ================  ========================================================================  ==================
    key               value                                                                     unit
    ================  ========================================================================  ==================
    loss              (l(X+e) + l(X-e)) / 2                                                     nats
    difference        |l(X+e) - l(X-e)|                                                         nats
    slope             difference / (2 |e|)                                                      nats per norm
    curvature         (l(X+e) + l(X-e) - 2 l(X)) / |e|^2, tends to e'He / |e|^2                 nats per norm^2
    token_slope       mean over tokens of |l_t(X+e) - l_t(X-e)| / (2 |e|)                       nats per norm
    token_curvature   mean over tokens of |l_t(X+e) + l_t(X-e) - 2 l_t(X)| / |e|^2              nats per norm^2
    logit_slope       mean over tokens of ||z(X+e) - z(X-e)|| / (2 |e|), z the centred logits   logits per norm
    logit_curvature   mean over tokens of ||z(X+e) + z(X-e) - 2 z(X)|| / |e|^2                  logits per norm^2
    symmetric_kl      mean over tokens of KL(p+ || p-) + KL(p- || p+)                           nats
    flips             share of tokens whose most probable token at X+e or X-e is not X's        0 to 1
    ================  ========================================================================  ==================
    """
    rows = len(norm_B)
    at, up, down = Perturbed.of(clean), Perturbed.of(plus), Perturbed.of(minus)

    def mean(values_N: Tensor) -> Tensor:
        return clean.mean_by_row(values_N, rows)

    first_N, second_N = up.losses - down.losses, up.losses + down.losses - 2 * at.losses
    difference_B = mean(first_N).abs()
    first_logits_N = (up.centred - down.centred).norm(dim=1)
    second_logits_N = (up.centred + down.centred - 2 * at.centred).norm(dim=1)
    divergence_N = ((up.log_p.exp() - down.log_p.exp()) * (up.log_p - down.log_p)).sum(1)
    flips_N = ((up.best != at.best).float() + (down.best != at.best).float()) / 2
    return {
        "loss": mean(up.losses + down.losses) / 2,
        "difference": difference_B,
        "slope": difference_B / (2 * norm_B),
        "curvature": mean(second_N) / norm_B**2,
        "token_slope": mean(first_N.abs()) / (2 * norm_B),
        "token_curvature": mean(second_N.abs()) / norm_B**2,
        "logit_slope": mean(first_logits_N) / (2 * norm_B),
        "logit_curvature": mean(second_logits_N) / norm_B**2,
        "symmetric_kl": mean(divergence_N),
        "flips": mean(flips_N),
    }
