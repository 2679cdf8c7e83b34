"""`paired`: a batch twice as data, in rows and in one flat row, from the collators that people use."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from torch import Tensor
from transformers import DataCollatorWithFlattening

from harness.noise import EmbeddingNoise, Noise, content_key, paired
from harness.noise.pairs import HALF, PairCollator
from harness.noise.tokens import tokens_of_call

SYMNOISE = Noise("rademacher", 5.0, pair="antithetic")
DOCUMENTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
FLAT = [token for ids in DOCUMENTS for token in ids]


def features() -> list[dict[str, Any]]:
    return [{"input_ids": ids} for ids in DOCUMENTS]


def added(batch: dict[str, Any], noise: Noise = SYMNOISE) -> Tensor:
    """What the hook adds to the embeddings of a paired batch, (B, L, D)."""
    model = tiny_model("llama", torch.float64)
    seen: list[Tensor] = []
    with EmbeddingNoise(model, noise, seed=0, document_key=content_key, paired_batches=True) as injector:
        model.get_input_embeddings().register_forward_hook(lambda _m, _a, output: seen.append(output.detach()))
        injector.at(step=0)
        model(**batch, use_cache=False)
    return seen[0] - torch.nn.functional.embedding(batch["input_ids"], model.get_input_embeddings().weight).detach()


def test_rows_are_doubled_with_all_that_belongs_to_them() -> None:
    ids = torch.arange(2, 8).view(2, 3)
    batch = {
        **{
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": ids,
            "sample_weight": torch.tensor([1, 2]),
        },
        **{"position_ids": torch.arange(3)[None], "names": ["a", "b"], "use_cache": False, "past_key_values": None},
    }
    twice = paired(batch)
    assert twice["input_ids"].tolist() == ids.tolist() * 2
    assert twice["labels"].tolist() == ids.tolist() * 2
    assert twice["sample_weight"].tolist() == [1, 2, 1, 2]
    assert twice["names"] == ["a", "b", "a", "b"]
    assert twice["position_ids"].tolist() == [[0, 1, 2]]  # one for all rows
    assert twice["use_cache"] is False
    assert twice["past_key_values"] is None
    assert twice[HALF].tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
    assert HALF not in batch


def test_a_flat_row_has_every_document_twice() -> None:
    batch = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)(features())
    twice = paired(batch)
    assert twice["input_ids"].tolist() == [FLAT * 2]
    assert twice["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2] * 2]
    assert twice["seq_idx"].tolist() == [[0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5]]
    assert twice["cu_seq_lens_q"].tolist() == [0, 4, 6, 9, 13, 15, 18]
    assert twice["cu_seq_lens_k"].dtype == batch["cu_seq_lens_k"].dtype
    assert twice["max_length_q"] == 4
    assert twice[HALF].tolist() == [[0] * 9 + [1] * 9]
    # The last token of the first copy has the first of the second as its neighbour, and must not predict it.
    bare = {key: torch.tensor([[1, 2, 1, 2]]) for key in ("input_ids", "labels")}
    assert paired({**bare, "position_ids": torch.tensor([[0, 1, 0, 1]])})["labels"].tolist() == [
        [1, 2, 1, 2, -100, 2, 1, 2]
    ]


def in_rows() -> dict[str, Tensor]:
    ids = torch.zeros(3, 4, dtype=torch.long)
    for row, tokens in enumerate(DOCUMENTS):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": ids}


@pytest.mark.parametrize("scale", ["raw", "relative"])
@pytest.mark.parametrize("pair", ["antithetic", "independent"])
def test_the_noise_of_a_document_is_the_same_in_rows_flat_and_numbered(pair: Any, scale: Any) -> None:
    """The flat row of a collator with lengths, and one whose mask numbers its documents, as axolotl's does."""
    noise = Noise("rademacher", 5.0, scale, pair)
    rows = added(paired(in_rows()), noise)
    plus, minus = ([half[row, : len(ids)] for row, ids in enumerate(DOCUMENTS)] for half in rows.chunk(2))
    flat = torch.tensor([FLAT])
    lengths = torch.tensor([len(ids) for ids in DOCUMENTS])
    numbers = torch.repeat_interleave(torch.arange(1, 4), lengths)[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    numbered = paired({"input_ids": flat, "labels": flat, "attention_mask": numbers, "position_ids": positions})
    assert numbered["attention_mask"].tolist() == [[1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 6]]
    collated = paired(DataCollatorWithFlattening(return_flash_attn_kwargs=True)(features()))
    for batch in (collated, {**numbered, "labels": None}):
        found = added(batch, noise)[0].chunk(2)
        for half, expected in zip(found, (plus, minus), strict=True):
            torch.testing.assert_close(half, torch.cat(expected), rtol=0, atol=1e-12)  # X + e - X
    if scale == "raw":
        assert torch.cat(plus).norm() == pytest.approx(5 * 3**0.5)
    sums = torch.cat(plus) + torch.cat(minus)
    assert (float(sums.abs().max()) < 1e-12) == (pair == "antithetic")


def test_equal_documents_of_a_batch_have_noise_of_their_own() -> None:
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    noise = added(paired({"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
    assert not torch.equal(noise[0], noise[1])
    torch.testing.assert_close(noise[:2], -noise[2:], rtol=0, atol=1e-12)


def test_what_cannot_be_doubled_is_refused() -> None:
    ids = torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="input_ids: a pair needs"):
        paired({"labels": ids})
    with pytest.raises(ValueError, match=r"pixel_values \(\(5, 3\)\): a pair cannot tell which rows"):
        paired({"input_ids": ids, "pixel_values": torch.ones(5, 3)})
    with pytest.raises(ValueError, match="already is a pair"):
        paired(paired({"input_ids": ids}))
    model = tiny_model("llama")
    with (
        EmbeddingNoise(model, SYMNOISE, seed=0, paired_batches=True),
        pytest.raises(ValueError, match=f"a training batch without {HALF}"),
    ):
        model(input_ids=ids, labels=ids)
    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match="a batch of two halves"):
        model(**paired({"input_ids": ids, "labels": ids}))


def test_evaluation_takes_the_mark_out_of_a_pair() -> None:
    model = tiny_model("llama").eval()
    ids = torch.randint(2, VOCABULARY, (2, 3))
    with EmbeddingNoise(model, SYMNOISE, seed=0, paired_batches=True):
        logits = model(**paired({"input_ids": ids})).logits
    torch.testing.assert_close(logits, model(ids.repeat(2, 1)).logits, rtol=0, atol=0)


def test_a_pair_collator_travels_to_workers() -> None:
    collator = pickle.loads(pickle.dumps(PairCollator(DataCollatorWithFlattening())))
    assert collator(features())["input_ids"].shape == (1, 18)


def test_a_flat_row_of_unsloths() -> None:
    """Its packing gives lengths, in place of cumulative ones; positions of the row may run through."""
    batch = {"input_ids": torch.tensor([FLAT]), "labels": torch.tensor([FLAT])}
    lengths = {"packed_seq_lengths": torch.tensor([4, 2, 3], dtype=torch.int32)}
    twice = paired({**batch, **lengths})
    assert twice["packed_seq_lengths"].tolist() == [4, 2, 3, 4, 2, 3]
    assert twice["packed_seq_lengths"].dtype == torch.int32
    assert twice[HALF].tolist() == [[0] * 9 + [1] * 9]
    layout = tokens_of_call(twice)
    assert layout.lengths.tolist() == [4, 2, 3, 4, 2, 3]
    by_positions = tokens_of_call({**batch, "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]])})
    assert torch.equal(tokens_of_call({**batch, **lengths}).document_BL, by_positions.document_BL)
