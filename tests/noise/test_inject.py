"""`EmbeddingNoise`: what it adds and when, the pair in one pass and in two, keys, and every safeguard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from harness.noise import PRESETS, EmbeddingNoise, Noise, noise_generators, perturb

SYMNOISE = Noise(**PRESETS["symnoise"])
Batch = dict[str, Tensor]


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_model("llama", torch.float64)


@pytest.fixture
def batch() -> Batch:
    """Two rows: 6 tokens with a prompt of 2, and 4 tokens with padding on the right."""
    ids = torch.randint(2, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :2] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model: nn.Module) -> Tensor:
    """All gradients as one vector; clears them."""
    vector = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return vector


def by_hand(model: PreTrainedModel, batch: Batch, noise: Noise, seed: int, step: int) -> Tensor:
    """The loss of noised embeddings, put together without any hook."""
    keys = [(0, 0, row) for row in range(2)]
    embeddings = perturb(
        model.get_input_embeddings()(batch["input_ids"]),
        batch["attention_mask"],
        noise,
        noise_generators(seed, step, keys),
        labels=batch["labels"],
    )
    twice = {key: batch[key].repeat(noise.halves, 1) for key in ("attention_mask", "labels")}
    loss: Tensor = model(inputs_embeds=embeddings, **twice).loss
    return loss


def float64_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean over rows and targets; transformers' own loss would round to float32."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"].repeat(len(logits) // len(batch["labels"]), 1)
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_plain_loop_gets_exactly_the_noise_of_perturb(model: PreTrainedModel, batch: Batch, name: str) -> None:
    noise, found, expected = Noise(**PRESETS[name]), [], []
    with EmbeddingNoise(model, noise, seed=3):
        for _ in range(2):
            loss = model(**batch).loss
            loss.backward()
            found.append((loss.detach(), gradients(model)))
    for step in range(2):
        loss = by_hand(model, batch, noise, seed=3, step=step)
        loss.backward()
        expected.append((loss.detach(), gradients(model)))
    for (loss, gradient), (loss_by_hand, gradient_by_hand) in zip(found, expected, strict=True):
        assert torch.equal(loss, loss_by_hand)
        # The embedding adds up its gradients in another order.
        torch.testing.assert_close(gradient, gradient_by_hand, rtol=1e-12, atol=1e-14)
    assert (found[0][0] == found[1][0]) == (name == "none")


@pytest.mark.parametrize("pair", ["antithetic", "independent"])
def test_concat_and_sequential_have_equal_gradients(model: PreTrainedModel, batch: Batch, pair: Any) -> None:
    noise = Noise("rademacher", 5.0, pair=pair)
    with EmbeddingNoise(model, noise, seed=0) as injector:
        injector.at(step=4)
        float64_loss(model, batch).backward()
    concat = gradients(model)
    with EmbeddingNoise(model, noise, seed=0) as injector:
        for half in (0, 1):
            injector.at(step=4, half=half)
            (float64_loss(model, batch) / 2).backward()
    sequential = gradients(model)
    # Rounding in float64, grown through two layers; 1e-6 is what is asked of it.
    assert (concat - sequential).norm() / concat.norm() < 1e-12
    # Not for want of noise: the first half alone is another gradient.
    with EmbeddingNoise(model, Noise("rademacher", 5.0), seed=0) as injector:
        injector.at(step=4)
        float64_loss(model, batch).backward()
    assert (concat - gradients(model)).norm() / concat.norm() > 1e-3


def test_num_items_in_batch_counts_both_halves(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        mean = model(**batch).loss
    targets = (batch["labels"][:, 1:] != -100).sum()
    for number in (targets, int(targets)):
        with EmbeddingNoise(model, SYMNOISE, seed=0):
            divided = model(**batch, num_items_in_batch=number).loss
        torch.testing.assert_close(divided, mean, rtol=1e-12, atol=0)


def test_input_ids_may_come_by_position(model: PreTrainedModel, batch: Batch) -> None:
    ids = batch.pop("input_ids")
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        by_position = model(ids, **batch).loss
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        assert torch.equal(by_position, model(input_ids=ids, **batch).loss)
    with EmbeddingNoise(model, SYMNOISE, seed=0), pytest.raises(ValueError, match="2 positional arguments"):
        model(ids, batch["attention_mask"])


# Packing


@pytest.mark.parametrize("name", ["neftune", "symnoise", "neftune_x2", "symnoise_relative"])
def test_a_packed_row_has_the_loss_of_its_documents(model: PreTrainedModel, batch: Batch, name: str) -> None:
    noise = Noise(**PRESETS[name])
    real = batch["attention_mask"].bool()
    packed = {key: batch[key][real][None] for key in ("input_ids", "labels")}
    packed["position_ids"] = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]])
    model.config.use_cache = False  # with a cache, transformers lets packed documents see each other
    losses = []
    for inputs in (batch, packed):
        with EmbeddingNoise(model, noise, seed=0) as injector:
            injector.measure = True
            injector.at(step=1, documents=[17, 4])
            losses.append(model(**inputs).loss)
            assert injector.last is not None
            assert injector.last.norm.shape == (noise.halves, 2)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)  # losses in float32


# Keys


def test_a_key_decides_the_noise_and_history_does_not(model: PreTrainedModel, batch: Batch) -> None:
    def losses(*keys: dict[str, Any]) -> list[float]:
        with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
            found = []
            for key in keys:
                injector.at(**key)
                found.append(model(**batch).loss.item())
                torch.rand(3)  # whoever else draws
        return found

    keys: list[dict[str, Any]] = [
        {"step": 0},
        {"step": 1},
        {"step": 1, "micro_batch": 1},
        {"step": 1, "rank": 1},
        {"step": 1, "documents": [5, 6]},
        {"step": 1, "documents": [6, 5]},
    ]
    straight = losses(*keys)
    assert losses(*keys[3:]) == straight[3:]  # as after a resume
    assert len(set(straight)) == len(keys)


def test_noise_of_a_document_knows_nothing_of_row_rank_or_micro_batch(model: PreTrainedModel, batch: Batch) -> None:
    def rows_seen(documents: list[int], order: list[int], **key: Any) -> Tensor:
        seen: list[Tensor] = []
        handle = model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        with EmbeddingNoise(model, Noise(), seed=0) as injector:
            injector.at(step=2, documents=documents, **key)
            model(**{name: value[order] for name, value in batch.items()})
        handle.remove()
        return seen[0]

    together = rows_seen([8, 9], [0, 1])
    swapped = rows_seen([9, 8], [1, 0], rank=3, micro_batch=2)
    alone = rows_seen([9], [1])
    assert torch.equal(together, swapped.flip(0))
    assert torch.equal(together[1:], alone)


def test_alpha_follows_the_schedule(model: PreTrainedModel, batch: Batch) -> None:
    noise = Noise("rademacher", 4.0, schedule="linear")
    with EmbeddingNoise(model, noise, seed=0) as injector:
        injector.measure = True
        injector.at(step=0, progress=0.25)
        model(**batch)
        assert injector.alpha == 3.0
        assert injector.last is not None
        torch.testing.assert_close(injector.last.norm, torch.full((1, 2), 3.0).double())
        injector.at(step=1)
        with pytest.raises(ValueError, match="schedule='linear': needs the progress"):
            model(**batch)


def test_where_reads_the_labels_of_the_call(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, Noise(where="response"), seed=0) as injector:
        injector.measure = True
        model(**batch)
        assert injector.last is not None
        assert injector.last.noised == 0.6  # (4 + 2) of (6 + 4) real tokens
        injector.measure = False
        model(**batch)
        batch.pop("labels")
        with pytest.raises(ValueError, match="where='response': needs labels"):
            model(**batch)


def test_special_tokens_can_be_left_alone(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, Noise(special_tokens=False), seed=0) as injector:
        injector.measure = True
        injector.at(step=0, special_tokens_mask=(torch.arange(6) == 0).expand(2, 6))
        model(**batch)
        assert injector.last is not None
        assert injector.last.noised == 0.8


def test_documents_that_do_not_fit_are_refused(model: PreTrainedModel, batch: Batch) -> None:
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.at(step=0, documents=[1, 2, 3])
        with pytest.raises(ValueError, match="3 documents named for a batch that holds 2"):
            model(**batch)


# Never in evaluation


def test_evaluation_and_generation_are_clean(model: Any, batch: Batch) -> None:
    generation = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    clean_loss = model(**batch).loss
    clean_text = model.generate(batch["input_ids"][:1], **generation)
    with EmbeddingNoise(model, Noise(alpha=1000.0, pair="antithetic"), seed=0):
        assert torch.equal(model.generate(batch["input_ids"][:1], **generation), clean_text)  # in training mode
        with torch.no_grad():
            assert torch.equal(model(**batch).loss, clean_loss)
        assert not torch.equal(model(**batch).loss, clean_loss)
        model.eval()
        assert torch.equal(model(**batch).loss, clean_loss)
        assert torch.equal(model.generate(batch["input_ids"][:1], **generation), clean_text)
        model.train()
        assert not torch.equal(model(**batch).loss, clean_loss)
    assert torch.equal(model(**batch).loss, clean_loss)


def test_alpha_zero_is_bitwise_no_noise(batch: Batch) -> None:
    model = tiny_model("llama")
    model.config.attention_dropout = 0.1
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    results = []
    for noise in (None, Noise(alpha=0.0), Noise(**PRESETS["none"])):
        torch.manual_seed(5)
        if noise is None:
            loss = model(**batch).loss
        else:
            with EmbeddingNoise(model, noise, seed=0):
                loss = model(**batch).loss
        loss.backward()
        results.append((loss.detach(), gradients(model)))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_dropout_does_not_see_the_noise(model: PreTrainedModel, batch: Batch) -> None:
    torch.manual_seed(5)
    with EmbeddingNoise(model, SYMNOISE, seed=0):
        model(**batch)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(after, torch.get_rng_state())


# Safeguards


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
