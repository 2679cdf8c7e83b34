"""`NoiseCallback` in TRL's own SFTTrainer: loss and gradient of a pair against two passes written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.sft import CLOSE, SEED, by_hand, documents, key_of, nll, rows, trainer_of, weights
from support.tiny_models import tiny_model
from torch import Tensor, nn
from transformers import TrainerCallback

from harness.data.batching import Document, micro_batches
from harness.noise import PRESETS, EmbeddingNoise, Noise
from harness.noise.callback import NoiseCallback
from harness.train.noise import TrainingNoise

# What TRL, PEFT and transformers say of one another.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`(label_smoothing_factor|compute_loss_func)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`loss_type='chunked_nll'` is deprecated:FutureWarning"),
]
trl = pytest.importorskip("trl")

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunked": {"loss_type": "chunked_nll"},
    "padding_free": {"padding_free": True},
    "packing": {"packing": True, "max_length": 24},
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "accumulated, packed": {
        **{"packing": True, "max_length": 24},
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    },
}


def trained(folder: Path, noise: Noise | None, completion_only: bool = False, **settings: Any) -> tuple[float, Tensor]:
    """Loss that the trainer logs and the gradient of its one step, from its step of SGD."""
    model = tiny_model("llama", torch.float64)
    before = weights(model)
    callbacks = [] if noise is None else [NoiseCallback(noise, SEED, key_of)]
    trainer = trainer_of(model, folder, callbacks, rows(completion_only), **settings)
    trainer.train()
    (loss,) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert not model._forward_pre_hooks
    assert not model.get_input_embeddings()._forward_hooks
    return loss, before - weights(model)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("completion_only", [False, True])
def test_a_pair_is_two_passes(tmp_path: Path, layout: str, completion_only: bool) -> None:
    noise = Noise(**PRESETS["symnoise"], alpha=5)
    loss, gradient = trained(tmp_path, noise, completion_only, **LAYOUTS[layout])
    expected, gradient_by_hand = by_hand(noise, completion_only)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert (gradient - gradient_by_hand).norm() <= CLOSE * gradient_by_hand.norm()


@pytest.mark.parametrize("layout", ["plain", "packing"])
def test_two_draws_are_two_passes(tmp_path: Path, layout: str) -> None:
    noise = Noise(**PRESETS["neftune_x2"], alpha=5)
    loss, gradient = trained(tmp_path, noise, **LAYOUTS[layout])
    expected, gradient_by_hand = by_hand(noise, completion_only=False)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert (gradient - gradient_by_hand).norm() <= CLOSE * gradient_by_hand.norm()


def smoothed(logits: Tensor, targets: Tensor) -> Tensor:
    log_p = logits.double().log_softmax(-1)
    return 0.9 * -log_p.gather(1, targets[:, None])[:, 0] - 0.1 * log_p.mean(-1)


def dft(logits: Tensor, targets: Tensor) -> Tensor:
    losses = nll(logits, targets)
    return losses * (-losses).exp().detach()


def squared(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """A loss of the user's own: it sees the trainer's batch, and divides by the trainer's count."""
    targets = labels[:, 1:]
    learnt = targets != -100
    return nll(outputs.logits[:, :-1][learnt], targets[learnt]).square().sum() / num_items_in_batch


@pytest.mark.parametrize(
    ("per_token", "settings"),
    [
        (smoothed, {"label_smoothing_factor": 0.1}),
        (dft, {"loss_type": "dft"}),
        (lambda logits, targets: nll(logits, targets).square(), {"compute_loss_func": squared}),
    ],
    ids=["label smoothing", "dft", "a loss of one's own"],
)
def test_other_losses_of_a_pair_are_two_passes(tmp_path: Path, per_token: Any, settings: dict[str, Any]) -> None:
    noise = Noise(**PRESETS["symnoise"], alpha=5)
    _, gradient = trained(tmp_path, noise, completion_only=True, **settings)
    _, gradient_by_hand = by_hand(noise, completion_only=True, per_token=per_token)
    assert (gradient - gradient_by_hand).norm() <= CLOSE * gradient_by_hand.norm()


@pytest.mark.parametrize("preset", ["symnoise", "neftune"])
def test_alpha_zero_is_the_trainer_without_noise(tmp_path: Path, preset: str) -> None:
    for layout in ("plain", "packing"):
        loss, gradient = trained(tmp_path, Noise(**PRESETS[preset], alpha=0), **LAYOUTS[layout])
        plain, gradient_plain = trained(tmp_path, None, **LAYOUTS[layout])
        # The tiled head adds 2B rows up in float32.
        assert loss == pytest.approx(plain, rel=1e-6)
        assert (gradient - gradient_plain).norm() <= CLOSE * gradient_plain.norm()
        if preset == "neftune":
            assert torch.equal(gradient, gradient_plain)


class Watch(TrainerCallback):
    """What the input embedding gives in every forward pass, by the documents' token ids."""

    def __init__(self, model: Any) -> None:
        self.model, self.seen = model, []

    def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
        if not self.seen:
            self.seen.append(None)
            self.model.get_input_embeddings().register_forward_hook(self._see)

    def _see(self, module: Any, args: tuple[Tensor], output: Tensor) -> None:
        clean = nn.functional.embedding(args[0], module.weight)
        self.seen.append((module.training and torch.is_grad_enabled(), args[0], (output - clean).detach()))

    def noise_of(self, token_ids: list[int]) -> Tensor:
        """Of its first copy in the first training pass."""
        _, ids, added = next(each for each in self.seen[1:] if each[0])
        flat = ids.flatten().tolist()
        start = next(place for place in range(len(flat)) if flat[place : place + len(token_ids)] == token_ids)
        return added.flatten(0, 1)[start : start + len(token_ids)]


@pytest.mark.parametrize("preset", ["symnoise", "neftune"])
@pytest.mark.parametrize("layout", ["plain", "padding_free", "packing"])
def test_the_noise_of_a_document_is_that_of_the_harness_itself(tmp_path: Path, preset: str, layout: str) -> None:
    noise, model = Noise(**PRESETS[preset], alpha=5), tiny_model("llama", torch.float64)
    watch = Watch(model)
    callbacks = [NoiseCallback(noise, SEED, key_of), watch]
    trainer_of(model, tmp_path, callbacks, rows(False), learning_rate=0.0, **LAYOUTS[layout]).train()
    own = TrainingNoise(noise, SEED, model.get_input_embeddings())
    examples = [Document(index, np.array(ids), np.array(ids)) for index, ids in enumerate(documents())]
    (packed,) = micro_batches(examples, layout="packed")
    added = own.of(packed, step=0).draw()[0].split(list(packed.segment_lengths[0]))
    for index, expected in zip(packed.documents, added, strict=True):
        # X + e - X in float64
        torch.testing.assert_close(watch.noise_of(documents()[index]), expected, rtol=1e-9, atol=1e-12)
    (padded,) = micro_batches(examples, layout="padded")
    for index, row_TD in zip(padded.documents, own.of(padded, step=0).draw(), strict=True):
        (place,) = [each for each, other in enumerate(packed.documents) if other == index]
        assert torch.equal(row_TD[: len(documents()[index])], added[place])


def test_evaluation_in_the_middle_is_neither_noised_nor_doubled(tmp_path: Path) -> None:
    model = tiny_model("llama", torch.float64)
    watch = Watch(model)
    callbacks = [NoiseCallback(Noise(**PRESETS["symnoise"], alpha=50), SEED), watch]
    settings = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4, "max_steps": 2}
    data = rows(False)
    trainer = trainer_of(model, tmp_path, callbacks, data, learning_rate=0.0, eval_dataset=data, **settings)
    trainer.train()
    trains = [each for each in watch.seen[1:] if each[0]]
    evaluates = [each for each in watch.seen[1:] if not each[0]]
    assert [len(ids) for _, ids, _ in trains] == [8, 8]
    assert [len(ids) for _, ids, _ in evaluates] == [4, 4]
    assert all(added.abs().max() > 0.1 for _, _, added in trains)
    assert not any(added.abs().max() for _, _, added in evaluates)
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert losses == [trainer.evaluate()["eval_loss"]] * 2


def test_a_resumed_training_repeats_its_noise(tmp_path: Path) -> None:
    noise = Noise(**PRESETS["symnoise"], alpha=5)
    settings = {"max_steps": 4, "per_device_train_batch_size": 1, "learning_rate": 0.1, "save_steps": 3}

    def train(folder: str, resume: str | None = None) -> Tensor:
        model = tiny_model("llama", torch.float64)
        keep = {"save_strategy": "steps"}
        trainer = trainer_of(model, tmp_path / folder, [NoiseCallback(noise, SEED)], rows(False), **settings, **keep)
        trainer.train(resume_from_checkpoint=resume)
        return weights(model)

    straight = train("a")
    # The third batch of an epoch of four is the first after the resume: a new loader that skips the others.
    assert torch.equal(train("b", str(tmp_path / "a" / "checkpoint-3")), straight)


@pytest.mark.parametrize("target", ["q_proj", "embed_tokens"])
def test_lora_on_top(tmp_path: Path, target: str) -> None:
    peft = pytest.importorskip("peft")
    model, noise = tiny_model("llama"), Noise(**PRESETS["symnoise"], alpha=5)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[target]))
    callback = NoiseCallback(noise, SEED)
    trainer = trainer_of(adapted, tmp_path, [callback], rows(False), max_steps=2)
    norms: list[Tensor] = []

    class Measure(TrainerCallback):
        def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
            callback.injector.measure = True

        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            norms.append(callback.injector.last.norm.flatten())

    trainer.add_callback(Measure())
    trainer.train()
    torch.testing.assert_close(torch.cat(norms), torch.full((16,), 5.0), rtol=1e-4, atol=0)  # float32


def test_a_hook_alone_is_refused_where_the_trainer_computes_the_loss(tmp_path: Path) -> None:
    """The silent mistake: TRL divides by a count of B rows, outside of the model's call."""
    model = tiny_model("llama")
    trainer = trainer_of(model, tmp_path, [], rows(False))
    with (
        EmbeddingNoise(model, Noise(**PRESETS["symnoise"]), seed=0),
        pytest.raises(ValueError, match="computes the loss outside of the model's call"),
    ):
        trainer.train()


def test_a_flat_pair_has_no_padded_or_row_length(tmp_path: Path) -> None:
    noise = Noise("rademacher", pair="antithetic", length="row")
    with pytest.raises(ValueError, match="length='row': a flat row with every document twice"):
        trained(tmp_path, noise, padding_free=True)
