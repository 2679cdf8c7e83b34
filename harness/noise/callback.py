"""The noise in a transformers Trainer. The only file of the package that imports transformers."""
# ruff: noqa: ARG002 - the Trainer fixes the signatures

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.noise.definition import Noise
from harness.noise.inject import EmbeddingNoise


class NoiseCallback(TrainerCallback):
    """Attach embedding noise when training begins and detach it when it ends.

        with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5), seed=0) as noise:
            Trainer(model, arguments, train_dataset=data, callbacks=[noise]).train()

    The key is (step, micro-batch, rank, row), so that a resumed training repeats its noise. The Trainer does
    not call `on_train_end` when training raises; `with` detaches even then. Without `with` the hooks stay
    until the next training with this callback: they do nothing in evaluation and generation, and a second
    attach is refused.

    A pair doubles the call of the model. A Trainer that computes the loss outside of it (label smoothing,
    compute_loss_func) meets 2B rows of logits with B rows of labels and stops.
    """

    def __init__(self, noise: Noise, seed: int) -> None:
        self.noise, self.seed = noise, seed
        self.injector: EmbeddingNoise | None = None
        self._stack = ExitStack()
        self._micro_batch = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the Trainer's model, after taking off what a training that raised has left."""
        self._stack.close()
        self.injector = self._stack.enter_context(EmbeddingNoise(kwargs["model"], self.noise, self.seed))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Key the first micro-batch of an optimiser step."""
        self._key(args, state, micro_batch=0)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Key the next micro-batch of the same step."""
        self._key(args, state, micro_batch=self._micro_batch + 1)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach."""
        self._stack.close()

    def _key(self, args: TrainingArguments, state: TrainerState, micro_batch: int) -> None:
        assert self.injector is not None, "the Trainer began a step before on_train_begin"
        self._micro_batch = micro_batch
        self.injector.at(
            step=state.global_step,
            micro_batch=micro_batch,
            rank=args.process_index,
            progress=state.global_step / state.max_steps,
        )
