"""`NoiseCallback` in TRL's own SFTTrainer: loss and gradient of a pair against two passes written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, TrainerCallback

from harness.data.batching import Document, micro_batches
from harness.noise import PRESETS, EmbeddingNoise, Noise, noise_generators
from harness.noise.callback import NoiseCallback
from harness.train.noise import TrainingNoise

# What TRL, PEFT and transformers say of one another.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`(label_smoothing_factor|compute_loss_func)` is deprecated:FutureWarning"),
]
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

LENGTHS, PROMPT, SEED = (12, 5, 9, 7), 3, 11
# Of the gradient's norm. The weights are float64; Llama's norm and TRL's tiled head compute in float32: 2e-7 seen.
CLOSE = 1e-6
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding_free": {"padding_free": True},
    "packing": {"packing": True, "max_length": 24},
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "accumulated, packed": {
        **{"packing": True, "max_length": 24},
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    },
}


def documents() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def rows(completion_only: bool) -> Any:
    masks = [[int(place >= PROMPT) for place in range(length)] for length in LENGTHS]
    columns = {"input_ids": documents()} | ({"completion_mask": masks} if completion_only else {})
    return datasets.Dataset.from_dict(columns)


def tokenizer() -> PreTrainedTokenizerFast:
    """As many words as the model has embeddings; 0 is padding. The data are token ids already."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="w0", eos_token="w1", bos_token="w1")


def key_of(token_ids: list[int]) -> int:
    """A document's place in the data set, as in the harness's own loop."""
    return documents().index(token_ids)


def trainer_of(model: Any, folder: Path, callbacks: list[Any], data: Any, **settings: Any) -> Any:
    options = {key: settings.pop(key) for key in ("compute_loss_func", "eval_dataset") if key in settings}
    arguments = trl.SFTConfig(
        **{
            **{"output_dir": str(folder), "max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0},
            **{"lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "report_to": "none", "bf16": False},
            **{"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "seed": 0},
            **{"activation_checkpointing": False, "dataloader_pin_memory": False, "max_length": None},
            **settings,
        }
    )
    arguments.completion_only_loss = "completion_mask" in data.column_names
    return trl.SFTTrainer(
        model, arguments, train_dataset=data, processing_class=tokenizer(), callbacks=callbacks, **options
    )


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


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.double(), targets, reduction="none")


def by_hand(noise: Noise, completion_only: bool, per_token: Callable[[Tensor, Tensor], Tensor] = nll) -> Any:
    """Two passes over each document, X + e and X - e or the second draw, and one mean over all their targets."""
    model = tiny_model("llama", torch.float64)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for index, ids in enumerate(documents()):
        (generator,) = noise_generators(SEED, 0, [index])
        embeddings = model.get_input_embeddings()(torch.tensor(ids))
        first, second = (draw(noise, embeddings.shape, generator) for _ in range(2))
        for added in (first, -first if noise.pair == "antithetic" else second):
            logits = model(inputs_embeds=(embeddings + added)[None]).logits[0]
            learnt = torch.arange(1, len(ids)) >= (PROMPT if completion_only else 0)
            losses = per_token(logits[:-1][learnt], torch.tensor(ids)[1:][learnt])
            total, count = total + losses.sum(), count + len(losses)
    loss = total / count
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.item(), torch.cat([gradient.flatten() for gradient in gradients])


def draw(noise: Noise, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """alpha / sqrt(L d) u, u as the papers define it."""
    scale = noise.alpha / math.sqrt(math.prod(shape))
    if noise.distribution == "uniform":
        return scale * torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    words = torch.empty(math.ceil(math.prod(shape) / 64), dtype=torch.int64)
    octets = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
    bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return scale * (2.0 * bits.flatten()[: math.prod(shape)].view(shape).double() - 1)


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
    (batch,) = micro_batches(examples, layout="packed")
    added = own.of(batch, step=0).draw()[0].split(list(batch.segment_lengths[0]))
    for index, expected in zip(batch.documents, added, strict=True):
        # X + e - X in float64
        torch.testing.assert_close(watch.noise_of(documents()[index]), expected, rtol=1e-9, atol=1e-12)


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
