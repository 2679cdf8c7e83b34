"""The smoothness probes of a model on a set of documents: one row of numbers for each document.

B documents, one a row; T tokens of a row, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config import ProbeConfig
from harness.data.batching import Document
from harness.probe.smoothness.differences import differences
from harness.probe.smoothness.directions import at_radius, direction, norms
from harness.probe.smoothness.hessian import Expansion, gradient_norms, top_eigenvalues, trace_samples
from harness.probe.smoothness.surface import Predictions, Surface, probing, surfaces, twice_differentiable

Row = dict[str, Any]

# A perturbation far too small to affect the loss: its second difference shows rounding alone.
FLOOR_RADIUS = 1e-3


def smoothness(
    model: PreTrainedModel,
    documents: Sequence[Document],
    settings: ProbeConfig,
    progress: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Differences of all documents and the Hessian of the first `hessian_examples`, in the documents' order.

    Returns:
        Rows with document, tokens (that have a target), length, `MEASURE/DISTRIBUTION/RADIUS` (means over the
        directions), rounding, and of the Hessian's documents gradient_norm, trace, mean_curvature, top_eigenvalue,
        top_residual.
    """
    rows: dict[int, Row] = {}
    with probing(model) as objective:
        for surface in surfaces(objective, documents, settings.max_tokens):
            for row in _difference_rows(surface, settings):
                rows[row["document"]] = row
            progress()
        with twice_differentiable(objective.model):
            for document in documents[
                : settings.hessian_examples
            ]:  # one at a time: its graph takes the most memory of all probes
                for surface in surfaces(objective, [document], settings.max_tokens):
                    for row in _hessian_rows(surface, settings):
                        rows[row["document"]] |= row
                progress()
    return [rows[document.index] for document in documents]


def passes(documents: Sequence[Document], settings: ProbeConfig) -> int:
    """How often `smoothness` will call `progress`."""
    from harness.data.batching import micro_batches

    batches = micro_batches(documents, layout="padded", max_tokens=settings.max_tokens) if documents else ()
    return len(batches) + len(documents[: settings.hessian_examples])


@torch.no_grad()
def _difference_rows(surface: Surface, settings: ProbeConfig) -> list[Row]:
    batch, zeros_BTD = surface.batch, surface.zeros()
    lengths = _lengths(surface)
    clean = surface.predictions()
    columns: dict[str, list[Tensor]] = {}
    for distribution in settings.distributions:
        for number in range(settings.directions):
            b_BTD = direction(distribution, number, batch.documents, lengths, zeros_BTD, settings.seed)
            for radius in settings.radii:
                e_BTD = at_radius(b_BTD, radius, lengths)
                plus, minus = surface.predictions(e_BTD), surface.predictions(-e_BTD)
                for key, value_B in differences(clean, plus, minus, norms(e_BTD)).items():
                    columns.setdefault(f"{key}/{distribution}/{radius:g}", []).append(value_B)
    columns["rounding"] = [_rounding(surface, clean, settings, lengths)]
    means = {key: torch.stack(values).mean(0).tolist() for key, values in columns.items()}
    targets = clean.rows.bincount(minlength=surface.rows).tolist()
    return [
        {"document": document, "tokens": targets[row], "length": lengths[row]} | {k: v[row] for k, v in means.items()}
        for row, document in enumerate(batch.documents)
    ]


def _rounding(surface: Surface, clean: Predictions, settings: ProbeConfig, lengths: list[int]) -> Tensor:
    """(B,) |l(X+e) + l(X-e) - 2 l(X)| where it should be zero: the rounding error of float32, in nats."""
    b_BTD = direction("rademacher", 0, surface.batch.documents, lengths, surface.zeros(), settings.seed)
    e_BTD = at_radius(b_BTD, FLOOR_RADIUS, lengths)
    clean_B = clean.mean_by_row(clean.losses(), surface.rows)
    return (surface.losses(e_BTD) + surface.losses(-e_BTD) - 2 * clean_B).abs()


def _hessian_rows(surface: Surface, settings: ProbeConfig) -> list[Row]:
    batch, zeros_BTD, lengths = surface.batch, surface.zeros(), _lengths(surface)
    expansion = Expansion.of(surface.losses, zeros_BTD)

    def drawn(purpose: str, number: int) -> Tensor:
        return direction(purpose, number, batch.documents, lengths, zeros_BTD, settings.seed)

    trace_SB = trace_samples(expansion, [drawn("trace", number) for number in range(settings.trace_directions)])
    values_B, residuals_B = top_eigenvalues(expansion, drawn("power", 0), settings.power_iterations)
    size_B = torch.tensor(lengths, device=zeros_BTD.device) * zeros_BTD.shape[2]
    columns = {
        "gradient_norm": gradient_norms(expansion),
        "trace": trace_SB.mean(0),
        "mean_curvature": trace_SB.mean(0) / size_B,
        "top_eigenvalue": values_B,
        "top_residual": residuals_B,
    }
    lists = {key: value_B.tolist() for key, value_B in columns.items()}
    return [
        {"document": document} | {k: v[row] for k, v in lists.items()} for row, document in enumerate(batch.documents)
    ]


def _lengths(surface: Surface) -> list[int]:
    return [lengths[0] for lengths in surface.batch.segment_lengths]
