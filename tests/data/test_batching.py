from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.batching import IGNORE_INDEX, Batch, Document, micro_batches


def document(index: int, length: int, prompt: int = 1) -> Document:
    """Token t of document i is 100 i + t + 1: no two tokens of a test are alike."""
    input_ids = np.arange(length) + 100 * index + 1
    labels = np.where(np.arange(length) < prompt, IGNORE_INDEX, input_ids)
    return Document(index, input_ids.astype(np.int32), labels)


def test_packed_by_hand() -> None:
    (batch,) = micro_batches([document(7, 2), document(3, 3, prompt=0)], layout="packed")
    assert batch.documents == (3, 7)  # longest first
    assert batch.segment_lengths == ((3, 2),)
    assert batch.input_ids.tolist() == [[301, 302, 303, 701, 702]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.document_ids.tolist() == [[0, 0, 0, 1, 1]]
    assert batch.labels.tolist() == [[301, 302, 303, -100, 702]]
    # The last token of a document predicts nothing, not even a labelled first token of the next.
    assert batch.targets.tolist() == [[302, 303, -100, 702, -100]]
    assert batch.n_targets == 3
    assert int(batch.attention_mask.sum()) == 5


def test_padded_by_hand() -> None:
    (batch,) = micro_batches([document(7, 2), document(3, 3, prompt=0)], layout="padded")
    assert batch.documents == (3, 7)
    assert batch.segment_lengths == ((3,), (2,))
    assert batch.input_ids.tolist() == [[301, 302, 303], [701, 702, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert batch.document_ids.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert batch.labels.tolist() == [[301, 302, 303], [-100, 702, -100]]
    assert batch.targets.tolist() == [[302, 303, -100], [702, -100, -100]]
    assert batch.n_targets == 3
    assert int(batch.attention_mask.sum()) == 5


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_repeat_puts_whole_copies_below_each_other(layout: str) -> None:
    (batch,) = micro_batches([document(0, 4), document(1, 2)], layout=layout)
    twice = batch.repeat(2)
    rows = len(batch.input_ids)
    for name in ("input_ids", "attention_mask", "position_ids", "labels", "targets"):
        assert torch.equal(getattr(twice, name), torch.cat([getattr(batch, name)] * 2)), name
    assert torch.equal(twice.document_ids[rows:], batch.document_ids + 2)
    assert twice.documents == (0, 1, 0, 1)
    assert twice.segment_lengths == batch.segment_lengths * 2
    assert twice.n_targets == 2 * batch.n_targets
    assert int(twice.attention_mask.sum()) == 2 * int(batch.attention_mask.sum())


def test_without_targets_keeps_the_tokens_and_predicts_nothing() -> None:
    (batch,) = micro_batches([document(0, 4), document(1, 2)], layout="packed")
    idle = batch.without_targets()
    assert torch.equal(idle.input_ids, batch.input_ids)
    assert idle.n_targets == 0
    assert (idle.targets == IGNORE_INDEX).all()
    assert (idle.labels == IGNORE_INDEX).all()


def test_first_fit_by_hand() -> None:
    batches = micro_batches([document(i, n) for i, n in enumerate((3, 9, 4, 6, 2))], layout="packed", max_tokens=10)
    assert [batch.documents for batch in batches] == [(1,), (3, 2), (0, 4)]


def test_padding_counts_towards_the_budget() -> None:
    batches = micro_batches([document(i, n) for i, n in enumerate((6, 4, 4))], layout="padded", max_tokens=12)
    assert [batch.documents for batch in batches] == [(0, 1), (2,)]


def test_a_document_longer_than_the_budget_stands_alone() -> None:
    batches = micro_batches([document(0, 2), document(1, 9), document(2, 2)], layout="packed", max_tokens=5)
    assert [batch.documents for batch in batches] == [(1,), (0, 2)]


@pytest.mark.parametrize(("limit", "value"), [("max_tokens", 0), ("max_rows", -1)])
def test_a_limit_below_one_is_refused(limit: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{limit}={value}"):
        micro_batches([document(0, 2)], layout="packed", **{limit: value})


def test_no_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="documents"):
        micro_batches([], layout="padded")


@pytest.mark.parametrize(("tokens", "labels"), [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_a_malformed_document_is_refused(tokens: list, labels: list) -> None:
    with pytest.raises(ValueError, match="document 5"):
        Document(5, np.array(tokens), np.array(labels))


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS,
    layout=st.sampled_from(["packed", "padded"]),
    max_tokens=st.none() | st.integers(1, 60),
    max_rows=st.none() | st.integers(1, 5),
)
def test_every_document_is_found_unchanged_once_and_limits_hold(
    lengths: list[int], layout: str, max_tokens: int | None, max_rows: int | None
) -> None:
    documents = [document(index, length) for index, length in enumerate(lengths)]
    batches = micro_batches(documents, layout=layout, max_tokens=max_tokens, max_rows=max_rows)
    assert sorted(index for batch in batches for index in batch.documents) == list(range(len(documents)))
    for batch in batches:
        alone = len(batch.documents) == 1
        assert max_tokens is None or alone or batch.input_ids.numel() <= max_tokens
        assert max_rows is None or len(batch.documents) <= max_rows
        assert batch.n_targets == int((batch.targets != IGNORE_INDEX).sum())
        _check_documents(batch, documents)


def _check_documents(batch: Batch, documents: list[Document]) -> None:
    real = batch.attention_mask.bool()
    for place, index in enumerate(batch.documents):
        mine = (batch.document_ids == place) & real
        original = documents[index]
        assert batch.input_ids[mine].tolist() == original.input_ids.tolist()
        assert batch.labels[mine].tolist() == original.labels.tolist()
        assert batch.position_ids[mine].tolist() == list(range(len(original)))
        assert batch.targets[mine].tolist() == [*original.labels[1:].tolist(), IGNORE_INDEX]
    assert (batch.targets[~real] == IGNORE_INDEX).all()
    lengths = [length for row in batch.segment_lengths for length in row]
    assert lengths == [len(documents[index]) for index in batch.documents]
