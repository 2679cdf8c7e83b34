"""Micro-batches: the documents of an optimiser step as tensors, packed without padding or padded by length.

B rows, T tokens of a row, N documents of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

IGNORE_INDEX = -100

Layout = Literal["packed", "padded"]

_PER_TOKEN = ("input_ids", "attention_mask", "position_ids", "labels", "targets", "document_ids")


@dataclass(frozen=True, eq=False)
class Document:
    """One tokenised training example.

    Attributes:
        index: its index in the data set.
        input_ids: (L,) integers.
        labels: (L,) integers; -100 where no loss is taken, otherwise equal to input_ids.
    """

    index: int
    input_ids: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.input_ids.ndim != 1 or self.input_ids.shape != self.labels.shape or not len(self.input_ids):
            raise ValueError(
                f"document {self.index}: input_ids of shape {self.input_ids.shape} and labels of shape "
                f"{self.labels.shape} must be one row each, of one length above 0"
            )

    def __len__(self) -> int:
        return len(self.input_ids)

    def first_exchange(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of tokens before the first learnt one, and of the learnt ones up to the next that is not."""
        learnt = self.labels != IGNORE_INDEX
        start = int(learnt.argmax())
        length = int((~learnt[start:]).argmax()) or len(self) - start
        return self.input_ids[:start], self.input_ids[start : start + length]


@dataclass(frozen=True, eq=False)
class Batch:
    """One forward pass.

    Attributes:
        input_ids: (B, T) int64; 0 at padding, where nothing reads it.
        attention_mask: (B, T) int64; 1 at real tokens, 0 at padding.
        position_ids: (B, T) int64; they restart at 0 with every document.
        labels: (B, T) int64; each token's own label, -100 for none and at padding.
        targets: (B, T) int64; the label of the next token of the same document, -100 for none: what the model
            must predict at this position. A document's first token is therefore never a target.
        document_ids: (B, T) int64; 0..N-1, the index in `documents`; padding has that of its row.
        documents: the N documents' `Document.index`, in row-major order.
        segment_lengths: for each row the lengths of its documents, in order; if packed they add up to T - filled.
        layout: packed (one row of documents end to end, padding only at its end) or padded (one document per row,
            padding on the right).
        n_targets: number of targets; stored so that no device has to be asked.
        target_places: (n_targets,) int64; their flat positions in (B * T), in order; stored for the same reason.
        filled: positions of padding at the end of a packed row, so that its length is a multiple.
        host: this batch in main memory if `to` has moved it: values that are only read are read there, without waiting
            for a device.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor
    targets: Tensor
    document_ids: Tensor
    documents: tuple[int, ...]
    segment_lengths: tuple[tuple[int, ...], ...]
    layout: Layout
    n_targets: int
    target_places: Tensor
    filled: int = 0
    host: Batch | None = None

    @property
    def segments(self) -> tuple[tuple[int, ...], ...]:
        """What attention keeps apart in each packed row: its documents, and the padding at its end as one more."""
        if not self.filled:
            return self.segment_lengths
        return tuple((*lengths, self.filled) for lengths in self.segment_lengths)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in (*_PER_TOKEN, "target_places")}
        return replace(self, **moved, host=self.host or self)

    def repeat(self, times: int) -> Batch:
        """The whole batch repeated `times` times: (times * B, T).

        Row r of copy k is row k * B + r, as in the pairs of `harness.noise.perturb`. Each copy of a document
        is a separate document: copy k of document n has document_ids k * N + n.
        """
        repeated = {name: getattr(self, name).repeat(times, 1) for name in _PER_TOKEN}
        shifted = [self.document_ids + copy * len(self.documents) for copy in range(times)]
        repeated["document_ids"] = torch.cat(shifted)
        places = [self.target_places + copy * self.targets.numel() for copy in range(times)]
        return replace(
            self,
            **repeated,
            documents=self.documents * times,
            segment_lengths=self.segment_lengths * times,
            n_targets=self.n_targets * times,
            target_places=torch.cat(places),
            host=self.host and self.host.repeat(times),
        )

    def without_targets(self) -> Batch:
        """The same forward pass without targets: loss and gradients are zero.

        For a rank with fewer micro-batches than the others: sharded models need equally many passes on each rank.
        """
        nothing = torch.full_like(self.targets, IGNORE_INDEX)
        return replace(
            self,
            labels=nothing,
            targets=nothing,
            n_targets=0,
            target_places=self.target_places[:0],
            host=self.host and self.host.without_targets(),
        )


def micro_batches(
    documents: Sequence[Document],
    *,
    layout: Layout,
    max_tokens: int | None = None,
    max_rows: int | None = None,
    multiple: int = 1,
) -> list[Batch]:
    """Distribute the documents of one optimiser step over as few forward passes as the limits allow.

    Longest first, each document goes to the first micro-batch with room for it; ties keep the given order, so the
    result depends only on the arguments.

    Args:
        documents: at least one.
        layout: packed or padded, see `Batch`.
        max_tokens: most positions in a micro-batch, padding included. A longer document has a micro-batch to itself.
        max_rows: most documents in a micro-batch.
        multiple: rows are padded to a multiple of this many positions.

    Raises:
        ValueError: no documents, or a limit below 1.
    """
    if not documents:
        raise ValueError("documents: none given, at least one is needed")
    for name, limit in (("max_tokens", max_tokens), ("max_rows", max_rows), ("multiple", multiple)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name}={limit}: must be 1 or more")
    return [_batch(group, layout, multiple) for group in _first_fit(documents, layout, max_tokens, max_rows, multiple)]


def _first_fit(
    documents: Sequence[Document], layout: Layout, max_tokens: int | None, max_rows: int | None, multiple: int
) -> list[list[Document]]:
    groups: list[list[Document]] = []
    positions: list[int] = []  # positions each group computes, padding included
    for document in sorted(documents, key=len, reverse=True):
        for place, group in enumerate(groups):
            # The first of a padded group is its longest: another row costs that width.
            grown = positions[place] + (len(document) if layout == "packed" else _filled(len(group[0]), multiple))
            fits = max_tokens is None or _filled(grown, multiple) <= max_tokens
            if fits and (max_rows is None or len(group) < max_rows):
                group.append(document)
                positions[place] = grown
                break
        else:
            groups.append([document])
            positions.append(len(document) if layout == "packed" else _filled(len(document), multiple))
    return groups


def _filled(positions: int, multiple: int) -> int:
    return -(-positions // multiple) * multiple


def _batch(documents: list[Document], layout: Layout, multiple: int) -> Batch:
    rows = [documents] if layout == "packed" else [[document] for document in documents]
    segment_lengths = tuple(tuple(map(len, row)) for row in rows)
    longest = max(map(sum, segment_lengths))
    shape = (len(rows), _filled(longest, multiple))
    places = [(row, start) for row, lengths in enumerate(segment_lengths) for start in _starts(lengths)]

    def fill(parts: Iterable[np.ndarray], padding: int = 0) -> Tensor:
        filled = np.full(shape, padding, dtype=np.int64)
        for (row, start), part in zip(places, parts, strict=True):
            filled[row, start : start + len(part)] = part
        return torch.from_numpy(filled)

    targets = fill((np.append(each.labels[1:], IGNORE_INDEX) for each in documents), padding=IGNORE_INDEX)
    return Batch(
        input_ids=fill(each.input_ids for each in documents),
        attention_mask=fill(np.ones_like(each.input_ids) for each in documents),
        position_ids=fill(np.arange(len(each)) for each in documents),
        labels=fill((each.labels for each in documents), padding=IGNORE_INDEX),
        targets=targets,
        # Ids only grow along a row: the running maximum lets padding inherit its row's.
        document_ids=fill(np.full(len(each), place) for place, each in enumerate(documents)).cummax(1).values,
        documents=tuple(document.index for document in documents),
        segment_lengths=segment_lengths,
        layout=layout,
        filled=shape[1] - longest if layout == "packed" else 0,
        n_targets=int((targets != IGNORE_INDEX).sum()),
        target_places=(targets.flatten() != IGNORE_INDEX).nonzero().squeeze(1),
    )


def _starts(lengths: Sequence[int]) -> list[int]:
    return [0, *accumulate(lengths)][:-1]
