"""What `EmbeddingNoise` refuses, and that it leaves the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.noised import Batch, by_hand
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from harness.noise import PRESETS, EmbeddingNoise, Noise

SYMNOISE = Noise(**PRESETS["symnoise"])


def test_documents_that_do_not_fit_are_refused(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.at(step=0, documents=[1, 2, 3])
        with pytest.raises(ValueError, match="3 documents named for a batch that holds 2"):
            model(**batch)


class Bare(nn.Module):
    """A model of nothing but what a test gives it."""

    def __init__(self, embedding: Any, forward: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.embedding = embedding
        self._forward = forward

    def get_input_embeddings(self) -> Any:
        return self.embedding

    def forward(self, input_ids: Tensor, **others: Any) -> Any:
        assert self._forward is not None
        return self._forward(self, input_ids, **others)


def test_a_model_without_embedding_is_refused() -> None:
    class Abstract(nn.Module):
        def get_input_embeddings(self) -> nn.Module:
            raise NotImplementedError

    for model in (nn.Linear(2, 2), Abstract(), Bare(None)):
        with pytest.raises(ValueError, match=type(model).__name__):
            EmbeddingNoise(model, Noise(), seed=0)


def test_an_embedding_called_twice_is_refused() -> None:
    model = Bare(nn.Embedding(9, 4), lambda self, ids: self.embedding(ids) + self.embedding(ids))
    ids = torch.ones(2, 3, dtype=torch.long)
    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match="called twice in one forward pass"):
        model(ids)


def test_an_embedding_not_called_is_refused(model: PreTrainedModel, batch: Batch) -> None:
    silent = Bare(nn.Embedding(9, 4), lambda self, ids: nn.functional.embedding(ids, self.embedding.weight))
    with EmbeddingNoise(silent, Noise(), seed=0), pytest.raises(ValueError, match="nothing was noised"):
        silent(torch.ones(2, 3, dtype=torch.long))
    embeddings = model.get_input_embeddings()(batch.pop("input_ids")).detach()
    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match="without input_ids"):
        model(inputs_embeds=embeddings, **batch)


def test_an_embedding_called_outside_a_forward_is_refused(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match="or outside of the module"):
        model.get_input_embeddings()(batch["input_ids"])


def test_a_training_that_was_never_noised_is_refused_at_the_end(model: PreTrainedModel) -> None:
    injector = EmbeddingNoise(model, Noise(), seed=0)
    with pytest.raises(ValueError, match="training ran without noise"), injector:
        injector.at(step=0)
    with injector:
        pass  # nothing announced, nothing expected
    with pytest.raises(ValueError, match="call `at` inside `with`"):
        injector.at(step=0)


def test_one_key_is_good_for_one_forward(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, Noise(), seed=0) as injector:
        injector.at(step=0)
        model(**batch)
        with pytest.raises(ValueError, match="a second forward pass with the same key"):
            model(**batch)


def test_copies_of_data_parallel_are_refused(model: PreTrainedModel, batch: Batch) -> None:
    # As nn.DataParallel makes them, one for each GPU and thread; they share the hooks.
    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match=r"nn\.DataParallel"):
        model._replicate_for_data_parallel()(**batch)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recomputed_embedding_is_refused(model: PreTrainedModel, batch: Batch, reentrant: bool) -> None:
    """Checkpointing around the whole model would go backward through other noise than forward."""
    anchor = torch.ones((), requires_grad=True)  # the reentrant kind wants an input with a gradient

    def loss(scale: Tensor) -> Tensor:
        return scale * model(**batch).loss

    with EmbeddingNoise(model, Noise(), seed=0), pytest.raises(ValueError, match="a forward pass inside backward"):
        checkpoint(loss, anchor, use_reentrant=reentrant).backward()


def test_a_half_is_one_of_a_pair(model: PreTrainedModel) -> None:
    for noise, half in ((SYMNOISE, 2), (SYMNOISE, -1), (Noise(), 0)):
        with EmbeddingNoise(model, noise, 0) as injector, pytest.raises(ValueError, match=f"half={half} with pair="):
            injector.at(step=0, half=half)


def test_a_second_attach_is_refused(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, Noise(), seed=0) as first:
        for second in (
            EmbeddingNoise(model, Noise(), seed=1),
            EmbeddingNoise(model.model, Noise(), 0),
            first,
        ):
            with pytest.raises(ValueError, match="already has embedding noise attached"):
                second.__enter__()
        assert len(model.get_input_embeddings()._forward_hooks) == 1
    with EmbeddingNoise(model, Noise(), seed=0):
        model(**batch)
    model.get_input_embeddings().neftune_noise_alpha = 5.0  # type: ignore[assignment]
    with pytest.raises(ValueError, match="neftune_noise_alpha is set"):
        EmbeddingNoise(model, Noise(), seed=0).__enter__()


def test_an_exception_in_the_middle_detaches(model: PreTrainedModel, batch: Batch) -> None:
    clean = model(**batch).loss

    def fail(*_: Any) -> None:
        raise KeyError("in the middle")

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyError, match="in the middle"), EmbeddingNoise(model, SYMNOISE, seed=0):
        model(**batch)
    handle.remove()
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in (model, model.get_input_embeddings())]
    assert not any(hooks)
    assert torch.equal(model(**batch).loss, clean)
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        assert not torch.equal(model(**batch).loss, clean)


def test_a_failed_forward_does_not_disturb_the_next(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        with pytest.raises(ValueError, match="attention_mask"):
            model(**{**batch, "attention_mask": torch.ones(2, 1, 6, 6)})
        loss = model(**batch).loss
    assert torch.equal(loss, by_hand(model, batch, SYMNOISE, seed=0, step=0))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("attention_mask", {"full_attention": torch.ones(2, 6)}, "attention_mask dict"),
        ("position_ids", torch.zeros(3, 2, 6, dtype=torch.long), r"position_ids of shape \(3, 2, 6\)"),
        ("cu_seq_lens_q", torch.tensor([0, 6, 10]), "cu_seq_lens_q .*: a pair cannot tell which rows"),
    ],
)
def test_calls_that_cannot_be_read_are_refused(
    model: PreTrainedModel, batch: Batch, key: str, value: Any, message: str
) -> None:
    with EmbeddingNoise(model, SYMNOISE, seed=0), pytest.raises(ValueError, match=message):
        model(**{**batch, key: value})
