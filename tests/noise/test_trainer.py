"""`NoiseCallback` in the real Trainer, and the snippets of docs/noise.md as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from harness.noise import PRESETS, EmbeddingNoise, Noise, content_key, input_embedding
from harness.noise.callback import NoiseCallback

PAGE = Path(__file__).parents[2] / "docs" / "noise.md"
ROWS, LENGTH = 16, 6


def rows() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(2, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[::2, 4:] = 0
    return [
        {"input_ids": i, "attention_mask": m, "labels": i.masked_fill(m == 0, -100)}
        for i, m in zip(ids, mask, strict=True)
    ]


def trainer_of(model: PreTrainedModel, folder: Path, callbacks: list[TrainerCallback], **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": 3,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-2,
            "report_to": "none",
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "seed": 0,
            **settings,
        }
    )
    return Trainer(model, arguments, train_dataset=rows(), callbacks=callbacks)


def weights(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def is_clean(model: PreTrainedModel) -> bool:
    embedding = input_embedding(model)
    return not (model._forward_pre_hooks or model._forward_hooks or embedding._forward_hooks)


class Recorder(NoiseCallback):
    """Notes the statistics of every noised forward pass."""

    def __init__(self, noise: Noise, seed: int) -> None:
        super().__init__(noise, seed)
        self.seen: list[tuple[int, int, float]] = []

    def _key(self, args: Any, state: Any, micro_batch: int) -> None:
        self._note()
        super()._key(args, state, micro_batch)
        assert self.injector is not None
        self.injector.measure = True

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._note()
        super().on_train_end(*args, **kwargs)

    def _note(self) -> None:
        assert self.injector is not None
        if self.injector.last is not None:
            key = self.injector._key
            assert key is not None
            self.seen.append((key.step, key.micro_batch, float(self.injector.last.norm.mean())))


def test_every_micro_batch_is_noised_with_its_own_key(tmp_path: Path) -> None:
    model = tiny_model("llama")
    callback = Recorder(Noise("rademacher", 4.0, schedule="linear"), seed=0)
    trainer_of(model, tmp_path, [callback]).train()
    assert [(step, micro) for step, micro, _ in callback.seen] == [(s, m) for s in range(3) for m in range(2)]
    # alpha 4 falls linearly over the three steps: 4, 8/3, 4/3.
    expected = [4.0, 4.0, 8 / 3, 8 / 3, 4 / 3, 4 / 3]
    assert [norm for *_, norm in callback.seen] == pytest.approx(expected, rel=1e-4)
    assert is_clean(model)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_symnoise_in_the_trainer_is_the_mean_over_both_halves(tmp_path: Path, smoothing: float) -> None:
    """One step of SGD on 2 x 2 examples moves the weights by minus the gradient of the mean over the pair."""
    noise, lr = Noise(**PRESETS["symnoise"]), 0.1
    settings = {"max_steps": 1, "optim": "sgd", "learning_rate": lr, "lr_scheduler_type": "constant"}
    settings |= {"label_smoothing_factor": smoothing}  # a loss that the Trainer computes itself
    trained = tiny_model("llama")
    trainer = trainer_of(trained, tmp_path, [NoiseCallback(noise, seed=7)], **settings, max_grad_norm=0.0)
    trainer.train()

    model = tiny_model("llama")
    start = weights(model)
    order = list(iter(trainer.get_train_dataloader()))[:2]
    targets = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in order)
    with EmbeddingNoise(model, noise, seed=7, document_key=content_key) as injector:
        for micro_batch, batch in enumerate(order):
            injector.at(step=0, micro_batch=micro_batch)
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            labels = batch["labels"].repeat(2, 1)[:, 1:].flatten()
            summed = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels, reduction="sum", label_smoothing=smoothing
            )
            (summed / (2 * targets)).backward()
    gradient = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )
    torch.testing.assert_close(weights(trained), start - lr * gradient, rtol=1e-4, atol=1e-6)
    assert gradient.norm() > 0.01


@pytest.mark.parametrize("preset", ["neftune", "symnoise"])
def test_alpha_zero_is_the_trainer_without_noise(preset: str, tmp_path: Path) -> None:
    trained = []
    for callbacks in ([], [NoiseCallback(Noise(**PRESETS[preset], alpha=0.0), seed=0)]):
        model = tiny_model("llama")
        trainer_of(model, tmp_path, callbacks, max_grad_norm=0.0, optim="sgd").train()
        trained.append(weights(model))
    if preset == "neftune":
        assert torch.equal(*trained)
    else:  # the mean over twice the rows, added up in float32
        moved = (trained[0] - weights(tiny_model("llama"))).norm()
        assert (trained[0] - trained[1]).norm() <= 1e-5 * moved


def test_a_resumed_training_repeats_the_noise(tmp_path: Path) -> None:
    noise = Noise(**PRESETS["symnoise"])
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    straight = tiny_model("llama")
    trainer_of(straight, tmp_path / "a", [NoiseCallback(noise, seed=0)], **settings).train()

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, kwargs
            control.should_training_stop = state.global_step == 2

    broken = tiny_model("llama")
    trainer_of(broken, tmp_path / "b", [NoiseCallback(noise, seed=0), Stop()], **settings).train()
    resumed = tiny_model("llama")
    trainer = trainer_of(resumed, tmp_path / "b", [NoiseCallback(noise, seed=0)], **settings)
    trainer.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    assert not torch.equal(weights(broken), weights(straight))
    assert torch.equal(weights(resumed), weights(straight))


def test_evaluation_inside_training_is_clean(tmp_path: Path) -> None:
    losses = []
    for noise in (Noise(alpha=0.0), Noise(alpha=1000.0)):
        model = tiny_model("llama")
        trainer = trainer_of(model, tmp_path, [NoiseCallback(noise, seed=0)], learning_rate=0.0)
        trainer.args.eval_strategy = "steps"
        trainer.args.eval_steps = 1
        trainer.eval_dataset = rows()
        trainer.train()
        losses.append([row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row])
    assert losses[0] == losses[1] != []


class Failing(TrainerCallback):
    def on_step_end(self, *_: Any, **__: Any) -> None:
        raise KeyError("in the middle of training")


def test_with_detaches_after_an_exception(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with (
        pytest.raises(KeyError, match="in the middle"),
        NoiseCallback(Noise(), seed=0) as callback,
    ):
        trainer_of(model, tmp_path, [callback, Failing()]).train()
    assert is_clean(model)


def test_without_with_the_next_training_detaches(tmp_path: Path) -> None:
    model, callback = tiny_model("llama"), NoiseCallback(Noise(), seed=0)
    with pytest.raises(KeyError, match="in the middle"):
        trainer_of(model, tmp_path, [callback, Failing()]).train()
    assert not is_clean(model)
    with pytest.raises(ValueError, match="already has embedding noise attached"):
        trainer_of(model, tmp_path, [NoiseCallback(Noise(), seed=0)]).train()
    trainer_of(model, tmp_path, [callback]).train()
    assert is_clean(model)


def test_transformers_own_noise_beside_it_is_refused(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="neftune_noise_alpha is set"):
        trainer_of(model, tmp_path, [NoiseCallback(Noise(), seed=0)], neftune_noise_alpha=5.0).train()


def test_layers_with_tokens_of_their_own_are_refused_when_training_begins(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Gemma3nForCausalLM: its layers read the token ids"):
        trainer_of(tiny_model("gemma3n_text"), tmp_path, [NoiseCallback(Noise(), seed=0)]).train()


def test_one_half_after_the_other_is_refused(tmp_path: Path) -> None:
    noise = Noise(**PRESETS["symnoise"])
    with pytest.raises(ValueError, match=r"pair_mode='sequential': .* halve per_device_train_batch_size and double"):
        NoiseCallback(noise, seed=0, pair_mode="sequential")

    class Half(NoiseCallback):
        def _key(self, *_args: Any, **_kwargs: Any) -> None:
            assert self.injector is not None
            self.injector.at(step=0, half=0)

    with pytest.raises(ValueError, match="half=0 with a batch of both halves"), Half(noise, seed=0) as callback:
        trainer_of(tiny_model("llama"), tmp_path, [callback]).train()


def test_the_snippets_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) >= 4
    batch = {key: torch.stack([row[key] for row in rows()[:4]]) for key in rows()[0]}
    arguments = trainer_of(tiny_model("llama"), tmp_path, []).args
    for snippet in snippets:
        model = tiny_model("llama")
        names: dict[str, Any] = {
            "model": model,
            "batches": [batch, batch],
            "batch": batch,
            "arguments": arguments,
            "dataset": rows(),
            "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        }
        before = weights(model)
        exec(compile(snippet, "docs/noise.md", "exec"), names)
        assert is_clean(model)
        trains = "optimizer.step()" in snippet or ".train()" in snippet
        assert trains != torch.equal(weights(model), before)
