"""Where in a training a forward pass stands: what keys its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.noise.randomness import Identity
from harness.noise.tokens import Tokens


@dataclass(frozen=True)
class Place:
    """Where in the training a forward pass stands, and what was said about its batch."""

    step: int
    micro_batch: int = 0
    rank: int = 0
    documents: Sequence[Identity] | None = None
    progress: float | None = None
    tokens: Tokens | None = None
    document_ids: Tensor | None = None
    special_tokens_mask: Tensor | None = None

    def identities(self, count: int) -> Sequence[Identity]:
        """What keys the noise of each of `count` documents: who it is or, failing that, where it stands."""
        if self.documents is None:
            return [(self.micro_batch, self.rank, number) for number in range(count)]
        if len(self.documents) != count:
            raise ValueError(f"{len(self.documents)} documents named for a batch that holds {count}")
        return self.documents


def rank_of_process() -> int:
    """Of torch.distributed; 0 without it."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
