"""The noise in transformers' Trainer and what builds on it: TRL, axolotl, LLaMA-Factory, unsloth.

The only file of the package that imports transformers.
"""
# ruff: noqa: ARG002 - the Trainer fixes the signatures

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.neftune import activate_neftune, deactivate_neftune

from harness.noise.definition import Noise
from harness.noise.inject import EmbeddingNoise
from harness.noise.pairs import PairCollator
from harness.noise.randomness import DocumentKey, content_key
from harness.noise.verification import NoiseReport, Watch


class NoiseCallback(TrainerCallback):
    """Attach embedding noise when training begins and detach it when it ends.

        with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5), seed=0) as noise:
            SFTTrainer(model, arguments, train_dataset=data, callbacks=[noise]).train()

    A pair is made where the trainer sees it: the collator of the training data loader gives 2B rows, or a flat row with
    every document twice, and the hook adds +e to one copy and -e to the other. Loss, num_items_in_batch, gradient
    accumulation, averages over devices, token accuracy, label smoothing and custom losses are then right because the
    trainer does nothing special. The batch needs twice the memory: to keep it constant, halve
    per_device_train_batch_size and double gradient_accumulation_steps. The trainer's token counts include both copies.

    A document's noise is keyed by (seed, step, its token ids), so that a resumed training repeats it and packing,
    order, micro-batches and ranks do not change it. Evaluation and generation are never noised or doubled.

    The Trainer does not call `on_train_end` when training raises; `with` detaches even then. Without `with`, the hooks
    stay until this callback trains again: they do nothing in evaluation and generation, and a second attach raises.

    Args:
        noise: what to add.
        seed: of the noise alone.
        document_key: from a document's token ids to what keys its noise, such as its index in the data set.
        verify: print what the first training pass showed of the noise, and keep it as `report`.
        pair_mode: "concat", both halves in one pass, is the only one; see the error.

    Raises:
        ValueError: pair_mode="sequential".
    """

    def __init__(
        self,
        noise: Noise,
        seed: int,
        document_key: Callable[[list[int]], DocumentKey] = content_key,
        verify: bool = False,
        pair_mode: str = "concat",
    ) -> None:
        if pair_mode != "concat":
            raise ValueError(
                f"pair_mode={pair_mode!r}: a trainer counts its steps in batches, so each half would count as one; "
                "for the same memory and gradient halve per_device_train_batch_size and double "
                "gradient_accumulation_steps"
            )
        self.noise, self.seed, self.document_key = noise, seed, document_key
        self.verify = verify
        self.injector: EmbeddingNoise | None = None
        self.report: NoiseReport | None = None
        self._watch: Watch | None = None
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
        """Attach to the Trainer's model, first detaching what a training that raised has left behind."""
        self._stack.close()
        if self.noise.pair != "none":
            self._pair_batches(kwargs.get("train_dataloader"))
        injector = EmbeddingNoise(kwargs["model"], self.noise, self.seed, self.document_key, paired_batches=True)
        self.injector = self._stack.enter_context(injector)
        if self.verify:
            self._watch = self._stack.enter_context(Watch(kwargs["model"], self.noise))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Key the first micro-batch of an optimiser step."""
        self._key(args, state, micro_batch=0)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Key the next micro-batch of the same step."""
        self._verified(state)
        self._key(args, state, micro_batch=self._micro_batch + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the first pass."""
        self._verified(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach."""
        self._stack.close()

    def _key(self, args: TrainingArguments, state: TrainerState, micro_batch: int) -> None:
        assert self.injector is not None, "the Trainer started a step before calling on_train_begin"
        self._micro_batch = micro_batch
        self.injector.at(
            step=state.global_step,
            micro_batch=micro_batch,
            rank=args.process_index,
            progress=state.global_step / state.max_steps,
        )

    def _verified(self, state: TrainerState) -> None:
        if self._watch is None or not self._watch.seen:
            return
        self.report = self._watch.report()
        self._watch.__exit__()
        self._watch = None
        if state.is_world_process_zero:
            print(self.report.text())

    def _pair_batches(self, loader: Any) -> None:
        """Make the training data loader yield pairs until training ends.

        accelerate's loaders wrap torch's; the loader that skips batches after a resume copies the collator.
        """
        inner = getattr(loader, "base_dataloader", loader)
        if not callable(getattr(inner, "collate_fn", None)):
            raise ValueError(
                f"pair={self.noise.pair!r}: the training data loader ({type(loader).__name__}) has no collate_fn to "
                "make pairs with; make them in your own data loader with harness.noise.paired"
            )
        collator = inner.collate_fn
        inner.collate_fn = PairCollator(collator)
        self._stack.callback(setattr, inner, "collate_fn", collator)


@contextmanager
def attached(trainer: Any) -> Iterator[tuple[Any, dict[str, Any], Noise | None]]:
    """A Trainer's model with the noise that training would attach, and the first training batch.

    Its NoiseCallback and transformers' `neftune_noise_alpha` are attached as `train` does; other callbacks are not.
    """
    callback = next((each for each in trainer.callback_handler.callbacks if isinstance(each, NoiseCallback)), None)
    alpha, loader = trainer.args.neftune_noise_alpha, trainer.get_train_dataloader()
    with ExitStack() as stack:
        if alpha is not None:
            handle = activate_neftune(trainer.model, alpha, trainer.accelerator)
            stack.callback(deactivate_neftune, trainer.model, handle, trainer.accelerator)
        if callback is not None:
            place = (trainer.args, trainer.state, trainer.control)
            stack.callback(callback.on_train_end, *place)
            callback.on_train_begin(*place, model=trainer.model, train_dataloader=loader)
            assert callback.injector is not None
            callback.injector.at(step=0, progress=0.0)
        batch = trainer._prepare_inputs(next(iter(loader)))
        yield trainer.model, batch, callback.noise if callback else None
