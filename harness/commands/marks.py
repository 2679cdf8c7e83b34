"""Tokens of a batch as lines of text: which are learnt, which get noise, where documents begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record.escape import escape_controls

_WIDTH = 16  # of the marks before a text
_GREEN, _UNDERLINED, _DIM, _PLAIN = "\033[32m", "\033[4m", "\033[2m", "\033[0m"


@dataclass(frozen=True)
class Token:
    """One position of a row. document: its index in the batch, None at padding."""

    id: int
    document: int | None
    learnt: bool
    noised: bool

    @property
    def marks(self) -> str:
        """ "noised, learnt", "learnt", "padding", ..., "" for a token that is only read."""
        named = {"padding": self.document is None, "noised": self.noised, "learnt": self.learnt}
        return ", ".join(name for name, holds in named.items() if holds)


def spans(row: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch of tokens of one document with the same marks."""
    start = 0
    for place in range(1, len(row) + 1):
        if place == len(row) or (row[place].document, row[place].marks) != (row[start].document, row[start].marks):
            yield start, place
            start = place


def as_text(row: Sequence[Token], tokenizer: Any, colour: bool) -> Iterator[str]:
    """One line per line of text, with marks before the first of a stretch; newlines are shown as \\n."""
    for start, end in spans(row):
        first = row[start]
        if first.document is None:
            yield _line(first, f"{end - start} positions", True, colour)
            continue
        begin = max(place for place in range(start + 1) if place == 0 or row[place - 1].document != first.document)
        before, whole = (_decoded(row[begin:to], tokenizer) for to in (start, end))
        pieces = whole[len(before) :].split("\n")
        shown = [*(f"{piece}\\n" for piece in pieces[:-1]), *pieces[-1:]]
        for number, piece in enumerate(each for each in shown if each or len(shown) == 1):
            yield _line(first, piece, number == 0, colour)


def as_tokens(row: Sequence[Token], tokenizer: Any, colour: bool) -> Iterator[str]:
    """One line per token: position, id, the tokenizer's own form, marks."""
    for place, token in enumerate(row):
        piece = "" if token.document is None else str(tokenizer.convert_ids_to_tokens(token.id))
        yield _line(token, f"{place:5}  {token.id:7}  {piece}", True, colour)


def _decoded(tokens: Sequence[Token], tokenizer: Any) -> str:
    ids = [token.id for token in tokens]
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _line(token: Token, text: str, with_marks: bool, colour: bool) -> str:
    shown = escape_controls(text, one_line=True)
    if colour:
        codes = _GREEN * token.learnt + _UNDERLINED * token.noised + _DIM * (token.document is None)
        shown = f"{codes}{shown}{_PLAIN}"
    return f"  {token.marks if with_marks else '':<{_WIDTH}}{shown}".rstrip()
