"""A model's predictions of given answers, without noise: loss, calibration, entropy, exact continuation.

N positions that have a target, V vocabulary, K bins of confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.data.batching import Document
from harness.probe.smoothness.surface import Predictions, probing, surfaces

Row = dict[str, Any]

BINS = 15  # of equal width, as in Guo et al. 1706.04599


def prediction_rows(model: PreTrainedModel, documents: Sequence[Document], max_tokens: int) -> list[Row]:
    """One row for each document, in their order; see `document_row`."""
    rows: dict[int, Row] = {}
    with torch.no_grad(), probing(model) as objective:
        for surface in surfaces(objective, documents, max_tokens):
            predictions = surface.predictions()
            for place, document in enumerate(surface.batch.documents):
                rows[document] = {"document": document, **document_row(_of_row(predictions, place))}
    return [rows[document.index] for document in documents]


def _of_row(predictions: Predictions, row: int) -> Predictions:
    here = predictions.rows == row
    return Predictions(predictions.logits[here], predictions.targets[here], predictions.rows[here])


def document_row(predictions: Predictions) -> Row:
    """Measures of one document's N targets.

    Returns:
        tokens, N. loss and entropy, means in nats. accuracy and confidence, the shares of targets that are the most
        probable token and the mean probability of that token. continued, how many of the answer's first tokens
        greedy decoding of the prompt alone would write exactly: until the first target that is not the most probable
        token, teacher forcing and greedy decoding see the same text. exact, 1 if that is all of them. exact_half, 1
        if greedy decoding writes the second half of the answer exactly, given the first (the extraction test of
        Carlini et al. 2202.07646). bins, (K, 3) counts, summed confidences and correct predictions by confidence.
    """
    log_NV = predictions.logits.log_softmax(1)
    top_N, best_N = log_NV.max(1)
    right_N = best_N == predictions.targets
    wrong = (~right_N).nonzero()
    continued = int(wrong[0]) if len(wrong) else len(right_N)
    return {
        "tokens": len(right_N),
        "loss": float(predictions.losses().mean()),
        "entropy": float(-(log_NV.exp() * log_NV).sum(1).mean()),
        "accuracy": float(right_N.float().mean()),
        "confidence": float(top_N.exp().mean()),
        "continued": continued,
        "exact": int(continued == len(right_N)),
        "exact_half": int(bool(right_N[len(right_N) // 2 :].all())),
        "bins": confidence_bins(top_N.exp(), right_N),
    }


def confidence_bins(confidence_N: Tensor, right_N: Tensor) -> list[list[float]]:
    """(K, 3): for each bin of confidence, number of predictions, sum of confidences, number of correct ones."""
    bin_N = (confidence_N.double() * BINS).long().clamp(max=BINS - 1)
    parts_N3 = torch.stack([torch.ones_like(confidence_N), confidence_N, right_N.to(confidence_N.dtype)], dim=1)
    return (
        torch.zeros(BINS, 3, dtype=torch.float64, device=bin_N.device).index_add(0, bin_N, parts_N3.double()).tolist()
    )


def expected_calibration_error(bins_K3: np.ndarray) -> np.ndarray:
    """ECE = sum over bins of (n_k / n) |right_k / n_k - confidence_k|, in [0, 1]; (..., K, 3) -> (...).

    Source: Naeini et al. 2015, Guo et al. 1706.04599.
    """
    counts, confidences, right = np.moveaxis(bins_K3, -1, 0)
    return np.abs(right - confidences).sum(-1) / counts.sum(-1)
