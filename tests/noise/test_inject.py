"""`EmbeddingNoise`: what it adds and when, the pair in one pass and in two, keys, and every safeguard."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.noised import Batch, by_hand
from support.tiny_models import tiny_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.noise import PRESETS, EmbeddingNoise, Noise

SYMNOISE = Noise(**PRESETS["symnoise"])


def gradients(model: nn.Module) -> Tensor:
    """All gradients as one vector; clears them."""
    vector = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return vector


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
