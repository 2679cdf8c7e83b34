"""The randomness of the noise: a generator for each document, keyed by its use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

DocumentKey = int | tuple[int, ...]


def noise_generators(
    seed: int, step: int, documents: Sequence[DocumentKey], device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """One generator for each document, keyed by (seed, step, document) and by nothing else.

    Why not the global generator: dropout, the data order and whatever ran before would change the noise, a
    resumed run would have to restore the state exactly, and ranks seeded alike would draw alike. With a key,
    the noise of a document in a step is exactly the same

    - after a resume, because the step is in the key and there is no other state;
    - whatever else draws random numbers (dropout has its own generator, which the noise leaves alone);
    - in any order, packing, split into micro-batches, rank or number of ranks, because none of these is in
      the key;

    and differs between ranks and accumulation steps because these hold different documents.

    Args:
        seed: of the run.
        step: optimiser step, counted from 0 over the whole training.
        documents: what distinguishes each document from the others of the step: its index in the data set or, where a
            step can hold a document twice (small data, several epochs), a pair such as (epoch, index). If no such
            key is known, its position will do: (micro_batch, rank, number of the document in the batch); the noise
            then still repeats after a resume but depends on how the batch was split.
        device: of the generators, and so of the draws. CPU and CUDA draw different numbers from one key.

    The key is hashed by BLAKE2b to 64 bits. torch's CPU generator keeps the lower 32 of them, so that two
    keys in 2**32 share their noise; two documents of one effective batch of 128 do with probability 2e-6.
    """
    return [torch.Generator(device).manual_seed(_hash(seed, step, key)) for key in documents]


def _hash(seed: int, step: int, key: DocumentKey) -> int:
    parts = key if isinstance(key, tuple) else (key,)
    text = ",".join(str(int(number)) for number in (seed, step, *parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"noise").digest(), "little")


def content_key(token_ids: Sequence[int]) -> int:
    """Key of a document by its content: 63 bits of BLAKE2b over its token ids."""
    text = ",".join(map(str, token_ids))
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"document").digest(), "little") >> 1


@dataclass(frozen=True)
class ForwardKey:
    """Where a forward pass stands in training, and what was said about its batch."""

    step: int
    micro_batch: int = 0
    rank: int = 0
    documents: Sequence[DocumentKey] | None = None
    progress: float | None = None
    half: int | None = None
    document_ids: Tensor | None = None
    special_tokens_mask: Tensor | None = None

    def document_keys(self, count: int) -> Sequence[DocumentKey]:
        """The key of each of `count` documents: its name or, failing that, its position."""
        if self.documents is None:
            return [(self.micro_batch, self.rank, number) for number in range(count)]
        if len(self.documents) != count:
            raise ValueError(f"{len(self.documents)} documents named for a batch that holds {count}")
        return self.documents


def rank_of_process() -> int:
    """The rank in torch.distributed; 0 without it."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
