"""What the noise needs to know about the tokens of a batch: which are real, and which document each belongs to.

B rows, L token positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.noise.randomness import DocumentKey

# What of a model call shows which tokens are real and where documents of a row begin.
LAYOUT_KEYS = ("attention_mask", "position_ids", "cu_seq_lens_q", "cu_seqlens", "packed_seq_lengths")


class Tokens:
    """The layout of one batch, on the CPU: a few numbers per token, read once per forward pass.

    Documents are numbered 0, 1, ... in the order in which their first real tokens appear, row by row.

    Attributes:
        real_BL: bool, false at padding.
        document_BL: int64, the number of the token's document, -1 at padding.
        lengths: int64 (documents,), real tokens of each document.
        prompt_BL: bool or None, true where the label is -100; None without labels.
        special_BL: bool or None, true at special tokens; None if unknown.
    """

    def __init__(
        self,
        attention_mask: Tensor,
        document_ids: Tensor | None = None,
        labels: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
    ) -> None:
        """Check the tensors of a batch, all (B, L), and derive the layout.

        Args:
            attention_mask: 1 at real tokens, 0 at padding; holes are allowed and do not count.
            document_ids: integers, equal ones in a row belong to one document; None: each row is one
                document.
            labels: -100 outside the response, at the same position as the token (not shifted).
            special_tokens_mask: 1 at special tokens.

        Raises:
            ValueError: a wrong shape, or a mask with other values than 0 and 1.
        """
        if attention_mask.ndim != 2:
            raise ValueError(f"attention_mask of shape {tuple(attention_mask.shape)}: must be (rows, tokens)")
        mask_BL = attention_mask.detach().cpu()
        self.real_BL = mask_BL != 0
        if not torch.equal(self.real_BL.to(mask_BL.dtype), mask_BL):
            raise ValueError("attention_mask has values other than 0 and 1: give document numbers as document_ids")
        self.prompt_BL = None if labels is None else self._checked("labels", labels) == -100
        self.special_BL = (
            None if special_tokens_mask is None else self._checked("special_tokens_mask", special_tokens_mask) != 0
        )
        ids_BL = None if document_ids is None else self._checked("document_ids", document_ids)
        self.document_BL, self.lengths = _number_documents(self.real_BL, ids_BL)

    def positions(self, with_padding: bool) -> list[Tensor]:
        """Flat positions (row * L + column) of each document's tokens, in reading order.

        Args:
            with_padding: append the padding of a row to its last document's tokens, for noise that is drawn document
                by document and also falls on padding. Padding of a row without documents is left out.
        """
        owner = self.document_BL.flatten()
        if with_padding:
            last_BL = self.document_BL.max(dim=1, keepdim=True).values.expand_as(self.document_BL)
            owner = torch.where(self.real_BL, self.document_BL, last_BL).flatten()
        order = torch.argsort(2 * owner + ~self.real_BL.flatten(), stable=True)
        order = order[(owner < 0).sum() :]
        return list(order.split(torch.bincount(owner[owner >= 0], minlength=len(self.lengths)).tolist()))

    def _checked(self, key: str, value: Tensor) -> Tensor:
        if value.shape != self.real_BL.shape:
            raise ValueError(f"{key} of shape {tuple(value.shape)}: attention_mask has {tuple(self.real_BL.shape)}")
        return value.detach().cpu()


def _number_documents(real_BL: Tensor, ids_BL: Tensor | None) -> tuple[Tensor, Tensor]:
    """Document number of every token (-1 at padding) and the documents' lengths, in order of appearance."""
    row_BL = torch.arange(real_BL.shape[0])[:, None].expand_as(real_BL)
    key = row_BL[real_BL]
    if ids_BL is not None:
        distinct, compact = torch.unique(ids_BL[real_BL], return_inverse=True)
        key = key * len(distinct) + compact
    _, number, counts = torch.unique(key, return_inverse=True, return_counts=True)
    # `unique` numbers by row and id; renumber by where a document's first token stands.
    first = torch.full_like(counts, len(number)).scatter_reduce_(0, number, torch.arange(len(number)), "amin")
    by_appearance = first.argsort()
    rank = torch.empty_like(by_appearance).scatter_(0, by_appearance, torch.arange(len(counts)))
    document_BL = torch.full_like(row_BL, -1)
    document_BL[real_BL] = rank[number]
    return document_BL, counts[by_appearance]


@dataclass(frozen=True, eq=False)
class CalledBatch:
    """What a model call shows of its batch; the rows of the layout may be called twice over.

    Attributes:
        half: (B, L), of a batch that is a pair, see `harness.noise.pairs.HALF`.
    """

    input_ids: Tensor
    tokens: Tokens
    half: Tensor | None = None

    def by_half(self, values: Tensor) -> Tensor:
        """(1, 2n) values of documents as (2, n), where the copies follow one another; as they are where they do not."""
        assert self.half is not None
        halves, count = self.half.flatten().cpu(), len(self.tokens.lengths)
        first = torch.stack([halves[where[0]] for where in self.tokens.positions(with_padding=False)])
        ordered = count % 2 == 0 and torch.equal(first, (torch.arange(count) >= count // 2).to(first.dtype))
        return values.view(2, -1) if ordered else values

    def keys(self, document_key: Callable[[list[int]], DocumentKey]) -> list[DocumentKey]:
        """Of each document by its token ids; of several alike in one half, the second has a number of its own."""
        rows = len(self.tokens.real_BL)
        ids = self.input_ids[:rows].flatten().cpu()
        halves = None if self.half is None else self.half.flatten().cpu()
        seen: Counter[tuple[int, DocumentKey]] = Counter()
        keys: list[DocumentKey] = []
        for where in self.tokens.positions(with_padding=False):
            key = document_key(ids[where].tolist())
            place = (0 if halves is None else int(halves[where[0]]), key)
            again, seen[place] = seen[place], seen[place] + 1
            keys.append(key if not again else (*(key if isinstance(key, tuple) else (key,)), again))
        return keys


def named_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A model call as keyword arguments; only input_ids may be positional.

    Raises:
        ValueError: more positional arguments, or no input_ids (with inputs_embeds the embedding is never
            called).
    """
    if len(args) > 1:
        raise ValueError(f"{len(args)} positional arguments: pass all but input_ids as keywords, which the noise reads")
    call = {"input_ids": args[0], **kwargs} if args else dict(kwargs)
    if not isinstance(call.get("input_ids"), Tensor):
        raise ValueError("a training forward without input_ids: with inputs_embeds the embedding is never called")
    return call


def tokens_of_call(
    call: dict[str, Any], document_ids: Tensor | None = None, special_tokens_mask: Tensor | None = None
) -> Tokens:
    """The layout of a batch, from the arguments of the model call and what was said beside it.

    Without an attention_mask every token is real, as the model itself takes it. Documents of a row are told apart by,
    first found: `document_ids`, a mask that numbers them from 1, lengths of sequences (cumulative or not), position
    numbers that return to 0 (padding numbered 0 as well needs the attention_mask to be told from one-token documents).

    Raises:
        ValueError: an attention_mask or position_ids from which the layout cannot be read.
    """
    input_ids_BL = call["input_ids"]
    mask = call.get("attention_mask")
    if mask is None:
        mask = torch.ones_like(input_ids_BL)
    if not isinstance(mask, Tensor) or mask.shape != input_ids_BL.shape:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"attention_mask {found}: the noise reads only a (rows, tokens) mask")
    labels = call.get("labels")
    if document_ids is None:
        document_ids = _documents_of_call(call, mask)
    per_token = labels is not None and labels.shape == input_ids_BL.shape
    return Tokens(_real(mask), document_ids, labels if per_token else None, special_tokens_mask)


def _real(mask_BL: Tensor) -> Tensor:
    """The mask as 0 and 1, where it numbers documents (axolotl's packing)."""
    whole = not mask_BL.is_floating_point() and mask_BL.dtype != torch.bool and int(mask_BL.min()) >= 0
    return (mask_BL != 0).to(mask_BL.dtype) if whole else mask_BL


def _documents_of_call(call: dict[str, Any], mask_BL: Tensor) -> Tensor | None:
    input_ids_BL, positions = call["input_ids"], call.get("position_ids")
    if mask_BL.dtype != torch.bool and int(mask_BL.max()) > 1:
        return mask_BL
    cumulative = next((call[key] for key in ("cu_seq_lens_q", "cu_seqlens") if call.get(key) is not None), None)
    if cumulative is None and call.get("packed_seq_lengths") is not None:  # unsloth's
        cumulative = nn.functional.pad(call["packed_seq_lengths"].flatten().cumsum(0), (1, 0))
    if cumulative is not None and len(input_ids_BL) == 1:
        starts = torch.zeros_like(input_ids_BL[0])
        starts[cumulative[1:-1].long()] = 1
        return starts.cumsum(0)[None]
    return None if positions is None else _documents_from_positions(positions, input_ids_BL)


def _documents_from_positions(position_ids: Tensor, input_ids_BL: Tensor) -> Tensor:
    if position_ids.ndim != 2 or position_ids.shape[1] != input_ids_BL.shape[1]:
        raise ValueError(f"position_ids of shape {tuple(position_ids.shape)}: give document_ids to `at` instead")
    return (position_ids == 0).cumsum(1).expand_as(input_ids_BL)
