"""What the noise has to know about the tokens of a batch: which are real, and which document each belongs to.

B rows, L token positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Tokens:
    """The layout of one batch, on the CPU: a few numbers per token, read once per forward pass.

    Documents are numbered 0, 1, ... in the order in which their first real tokens appear, row by row.

    Attributes:
        real_BL: bool, false at padding.
        document_BL: int64, the number of the token's document, -1 at padding.
        lengths: int64 (documents,), real tokens of each document.
        prompt_BL: bool or None, true where the label is -100; None without labels.
        special_BL: bool or None, the special tokens; None where nobody said.
    """

    def __init__(
        self,
        attention_mask: Tensor,
        document_ids: Tensor | None = None,
        labels: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
    ) -> None:
        """Check and digest the tensors of a batch, all (B, L).

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
            with_padding: let the padding of a row follow its last document's own tokens, for noise that is
                drawn document by document and falls on padding too. Padding of a row without any document
                stays out.
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
