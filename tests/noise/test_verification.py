"""`verify`: what it says of this package's noise, of transformers' own, of the official code's, and of mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from transformers import Trainer, TrainingArguments
from transformers.integrations.neftune import activate_neftune

from harness.noise import PRESETS, EmbeddingNoise, Noise, verify
from harness.noise.callback import NoiseCallback

ALPHA = 5.0
LENGTHS = (40, 16, 28)


def batch() -> dict[str, torch.Tensor]:
    """Three rows, padded on the right to 40."""
    ids = torch.randint(2, VOCABULARY, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(40) < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def test_this_packages_noise_is_right() -> None:
    model, before = tiny_model("llama"), torch.get_rng_state()
    with EmbeddingNoise(model, Noise(alpha=ALPHA), seed=0):
        report = verify(model, batch(), alpha=ALPHA)
    assert report.right
    assert (report.times, report.documents, report.length, report.pair) == (1, 3, "true", "none")
    assert (report.noised, report.noised_padding) == (1.0, 0)
    # The norm of uniform noise scatters by about 1 / sqrt(2 L d): 2% at 16 tokens of 32.
    assert report.realised is not None
    assert report.realised == pytest.approx((1, 1, 1), rel=0.08)
    assert torch.equal(torch.get_rng_state(), before)
    assert "L: the document's own" in report.text()
    assert json.loads(report.json())["right"] is True


@pytest.mark.parametrize(("preset", "pair"), [("symnoise", "antithetic"), ("bernoulli_x2", "independent")])
def test_a_pair_is_recognised(preset: str, pair: str) -> None:
    model = tiny_model("llama")
    with EmbeddingNoise(model, Noise(**PRESETS[preset], alpha=ALPHA), seed=0):
        report = verify(model, batch(), alpha=ALPHA)
    assert (report.pair, report.documents, report.right) == (pair, 3, True)
    assert report.asymmetry is not None
    assert (report.asymmetry < 1e-5) == (pair == "antithetic")


@pytest.mark.parametrize("preset", ["neftune_relative", "symnoise_relative"])
def test_relative_noise_is_held_against_the_norm_of_its_embeddings(preset: str) -> None:
    model, noise = tiny_model("llama"), Noise(**PRESETS[preset], alpha=2.0)
    with EmbeddingNoise(model, noise, seed=0):
        report = verify(model, batch(), noise=noise)
    assert (report.right, report.length) == (True, "true")
    assert report.realised == pytest.approx((1, 1, 1), rel=0.08)  # as above
    inputs = batch()
    table = model.get_input_embeddings().weight.detach()  # type: ignore[union-attr, operator]
    rows = [table[ids[mask == 1]] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    sizes = [float(row.norm(dim=1).mean()) for row in rows]
    assert report.intended == pytest.approx(2 * sum(sizes) / len(sizes) / math.sqrt(3))


def test_transformers_own_noise_has_the_padded_length_and_reaches_padding() -> None:
    model = tiny_model("llama")
    activate_neftune(model, ALPHA)
    report = verify(model, batch())
    assert not report.right
    assert (report.length, report.noised_padding) == ("padded", 3 * 40 - sum(LENGTHS))
    assert report.realised == pytest.approx([math.sqrt(16 / 40), sum(map(_share, LENGTHS)) / 3, 1.0], rel=0.08)
    # What it would have done is what it does.
    assert report.transformers == pytest.approx(report.realised, rel=0.1)


def _share(length: int) -> float:
    return math.sqrt(length / 40)


def test_noise_twice_is_seen() -> None:
    model = tiny_model("llama")
    activate_neftune(model, ALPHA)
    activate_neftune(model, ALPHA)
    report = verify(model, batch())
    assert report.times == 2
    assert not report.right
    assert "2 TIMES" in report.text()


def test_a_patched_embedding_is_seen_too() -> None:
    """As the official code does it: the embedding's forward replaced, no hook at all."""
    model: Any = tiny_model("llama")
    embedding = model.get_input_embeddings()
    plain = embedding.forward

    def noised(ids: torch.Tensor) -> torch.Tensor:
        clean = plain(ids)
        scale = ALPHA / math.sqrt(clean.shape[1] * clean.shape[2])
        return clean + torch.empty_like(clean).uniform_(-scale, scale) if embedding.training else clean

    embedding.forward = noised
    report = verify(model, batch(), alpha=ALPHA)
    assert (report.times, report.length) == (1, "padded")


def test_layers_that_read_the_tokens_clean_are_said() -> None:
    """Somebody's NEFTune on Gemma 3n: the noise arrives, and hides nothing."""
    model = tiny_model("gemma3n_text")
    activate_neftune(model, ALPHA)
    report = verify(model, {"input_ids": batch()["input_ids"] % 95 + 2})
    assert (report.arrives, report.right) == (True, False)
    assert report.beside == ("model.embed_tokens_per_layer",)
    assert "CLEAN beside it, in model.embed_tokens_per_layer" in report.text()


def test_no_noise_is_said() -> None:
    model = tiny_model("llama").eval()
    report = verify(model, batch(), alpha=ALPHA)
    assert not report.arrives
    assert report.text().startswith("noise: NONE arrives")
    assert not model.training
    with pytest.raises(ValueError, match="batch: needed to verify a model"):
        verify(model)


def trainer_of(folder: Path, callbacks: list[Any], **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=3, report_to="none", use_cpu=True, **settings
    )
    arguments.set_save(strategy="no")
    arguments.disable_tqdm = True
    rows = [{key: value[row] for key, value in batch().items()} for row in range(3)]
    return Trainer(tiny_model("llama"), arguments, train_dataset=rows, callbacks=callbacks)


def test_a_trainer_is_verified_before_it_trains(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, [NoiseCallback(Noise(**PRESETS["symnoise"], alpha=ALPHA), seed=0)])
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    report = verify(trainer)
    assert report.right
    assert (report.pair, report.documents) == ("antithetic", 3)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert not trainer.model.get_input_embeddings()._forward_hooks
    theirs = verify(trainer_of(tmp_path, [], neftune_noise_alpha=ALPHA))
    assert (theirs.length, theirs.right) == ("padded", False)


def test_the_callback_verifies_the_first_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = NoiseCallback(Noise(**PRESETS["symnoise"], alpha=ALPHA), seed=0, verify=True)
    trainer_of(tmp_path, [callback]).train()
    assert callback.report is not None
    assert callback.report.right
    assert "pair: antithetic" in capsys.readouterr().out
