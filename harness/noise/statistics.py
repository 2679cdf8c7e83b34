"""The noise that actually reached the model, measured from the embeddings before and after.

B rows, L token positions, D hidden size, H halves of a pair.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.noise.tokens import Tokens


@dataclass(frozen=True)
class NoiseStatistics:
    """What was added in one forward pass.

    Attributes:
        norm: (H, documents), L2 norm of each document's noise over its real tokens. Expected at alpha:
            alpha / sqrt(3) for uniform and matched noise, alpha for gaussian, exactly alpha for rademacher; with
            scale="relative" alpha / sqrt(3) times the mean norm of the document's token embeddings.
        ratio: (H, documents), the same divided by the L2 norm of the document's embeddings.
        noised: fraction of the real tokens that were changed.
        noised_padding: number of padding positions that were changed; 0 unless length="padded".
    """

    norm: Tensor
    ratio: Tensor
    noised: float
    noised_padding: int

    @classmethod
    def none(cls, halves: int, documents: int) -> NoiseStatistics:
        """The statistics of a pass without noise."""
        return cls(torch.zeros(halves, documents), torch.zeros(halves, documents), 0.0, 0)

    def summary(self) -> dict[str, float]:
        """Means over documents and halves, named for a log."""
        return {
            "noise/norm": float(self.norm.mean()),
            "noise/ratio": float(self.ratio.mean()),
            "noise/noised_tokens": self.noised,
            "noise/noised_padding": float(self.noised_padding),
        }


@torch.no_grad()
def realised_noise(before_HBLD: Tensor, after_HBLD: Tensor, tokens: Tokens) -> NoiseStatistics:
    """Measure the noise as the difference of the embeddings, after all rounding.

    Args:
        before_HBLD: (H or 1, B, L, D) clean embeddings.
        after_HBLD: (H, B, L, D) what the model was given.
        tokens: layout of the B rows.
    """
    work_type = torch.promote_types(after_HBLD.dtype, torch.float32)
    before_HBLD = before_HBLD.to(work_type).expand_as(after_HBLD)
    added_HBL = (after_HBLD.to(work_type) - before_HBLD).square().sum(-1).cpu()
    clean_HBL = before_HBLD.square().sum(-1).cpu()
    norm, clean = (_by_document(squares, tokens).sqrt() for squares in (added_HBL, clean_HBL))
    changed_HBL = added_HBL > 0
    return NoiseStatistics(
        norm=norm,
        ratio=norm / clean,
        noised=float(changed_HBL[:, tokens.real_BL].double().mean()),
        noised_padding=int(changed_HBL[0, ~tokens.real_BL].sum()),
    )


@torch.no_grad()
def mean_norms(embeddings_BLD: Tensor, tokens: Tokens) -> Tensor:
    """(documents,) the mean L2 norm of each document's token embeddings, on their device.

    Summed in float64 and document by document, so that packing, padding and neighbours do not change it.
    """
    device = embeddings_BLD.device
    wide = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
    norm_BL = torch.linalg.vector_norm(embeddings_BLD.detach(), dim=-1, dtype=wide)
    real_BL, document_BL = tokens.real_BL.to(device), tokens.document_BL.to(device)
    sums = norm_BL.new_zeros(len(tokens.lengths)).index_add_(0, document_BL[real_BL], norm_BL[real_BL])
    return sums / tokens.lengths.to(device)


def _by_document(squares_HBL: Tensor, tokens: Tokens) -> Tensor:
    sums = squares_HBL.new_zeros(len(squares_HBL), len(tokens.lengths))
    return sums.index_add_(1, tokens.document_BL[tokens.real_BL], squares_HBL[:, tokens.real_BL])


class Stopwatch:
    """Sums the time of blocks. On CUDA, two events mark each block, and nothing waits until `seconds` is read."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Time the block."""
        if device.type == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events.append((first, last))
        else:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started

    @property
    def seconds(self) -> float:
        """The sum so far; waits for the device's last block."""
        for first, last in self._events:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000
        self._events.clear()
        return self._seconds
