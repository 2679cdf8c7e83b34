"""Somebody's trainer, whatever it makes of its data: its first step held against two passes over what it trained on.

For environments of their own (axolotl, LLaMA-Factory): imports torch, transformers and harness.noise alone.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from harness.noise import PRESETS, Noise, content_key, noise_generators, perturb
from harness.noise.pairs import HALF
from harness.noise.tokens import tokens_of_call
from harness.noise.verification import Watch

Documents = list[tuple[Tensor, Tensor]]  # token ids and labels, each (L,)


class Record(TrainerCallback):
    """Writes what the first step did, by the weights, and what it should have done.

    The trainer makes one step of SGD at rate 1 without clipping, with SymNoise at alpha 5 from seed 0.
    """

    noise, seed = Noise(**PRESETS["symnoise"], alpha=5.0), 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches: list[dict[str, Any]] = []

    def on_step_begin(self, *_args: Any, model: Any, **_kwargs: Any) -> None:
        self.before = copy.deepcopy({name: each.detach() for name, each in model.named_parameters()})
        self.handle = model.register_forward_pre_hook(self._see, with_kwargs=True, prepend=True)

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.handle.remove()

    def on_train_end(self, args: Any, state: Any, _control: Any, *, model: Any, **_kwargs: Any) -> None:
        del args
        moved = torch.cat([(self.before[name] - each.detach()).flatten() for name, each in model.named_parameters()])
        with torch.no_grad():
            for name, each in model.named_parameters():
                each.copy_(self.before[name])
        batches = [first_half(batch) for batch in self.batches]
        found: dict[str, Any] = {
            "documents": sum(map(len, batches)),
            "rows": [list(batch["input_ids"].shape) for batch in self.batches],
            "logged": next(row["loss"] for row in state.log_history if "loss" in row),
        }
        # Over all targets of the step; and the mean of each micro-batch's own mean, as some trainers take it.
        for name, parts in (("all", [[each for batch in batches for each in batch]]), ("means", batches)):
            each_one = [two_passes(model, documents, self.noise, self.seed) for documents in parts]
            gradient = torch.stack([gradient for _, gradient in each_one]).mean(0)
            off = float((moved - gradient).norm() / gradient.norm())
            found[name] = {"loss": sum(loss for loss, _ in each_one) / len(each_one), "gradient": off}
        self.path.write_text(json.dumps(found), encoding="utf-8")

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module.training and torch.is_grad_enabled():
            assert not args
            self.batches.append({key: value for key, value in kwargs.items() if isinstance(value, Tensor)})


def first_half(batch: dict[str, Any]) -> Documents:
    """The documents of a batch, one copy of each pair; both copies are alike."""
    layout = tokens_of_call(batch)
    halves: list[Documents] = [[], []]
    for where in layout.positions(with_padding=False):
        half = int(batch[HALF].flatten()[where[0]])
        halves[half].append((batch["input_ids"].flatten()[where], batch["labels"].flatten()[where]))
    assert [ids.tolist() for ids, _ in halves[0]] == [ids.tolist() for ids, _ in halves[1]]
    return halves[0]


def two_passes(model: Any, documents: Documents, noise: Noise, seed: int) -> tuple[float, Tensor]:
    """Mean loss over the targets of X + e and X - e of every document by itself, and its gradient."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    model.train()
    model.gradient_checkpointing_disable()
    for ids, labels in documents:
        (generator,) = noise_generators(seed, 0, [content_key(ids.tolist())])
        clean = model.get_input_embeddings()(ids)[None]
        for noised in perturb(clean, torch.ones_like(ids)[None], noise, [generator]).chunk(2):
            logits = model(inputs_embeds=noised, use_cache=False).logits[0]
            losses = nn.functional.cross_entropy(logits[:-1].double(), labels[1:], reduction="sum")
            total, count = total + losses, count + int((labels[1:] != -100).sum())
    gradients = torch.autograd.grad(total / count, list(model.parameters()))
    return float(total / count), torch.cat([each.flatten() for each in gradients])


class See(TrainerCallback):
    """Writes what `verify` says of the first pass, whoever put the noise there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step_begin(self, *_args: Any, model: Any, **_kwargs: Any) -> None:
        self.watch = Watch(model, Noise(alpha=5.0)).__enter__()

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.watch.__exit__()
        report = self.watch.report()
        self.path.write_text(report.json(), encoding="utf-8")
        print(report.text())
