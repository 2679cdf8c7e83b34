"""Attaching the noise to a model for as long as it trains, and surely taking it off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn

from harness.noise.definition import Noise
from harness.noise.embedding import input_embedding, is_training
from harness.noise.perturb import apply_noise
from harness.noise.randomness import Identity, Place, noise_generators, rank_of_process
from harness.noise.statistics import NoiseStatistics, Stopwatch, realised_noise
from harness.noise.tokens import Tokens, double_rows, named_arguments, tokens_of_call

PairMode = Literal["concat", "sequential"]

_ATTACHED: WeakSet[nn.Module] = WeakSet()


class EmbeddingNoise:
    """Noise on the input embedding of a model, inside `with`, in training forward passes only.

        with EmbeddingNoise(model, Noise(distribution="rademacher", pair="antithetic"), seed=0) as noise:
            for step, batch in enumerate(batches):
                noise.at(step=step)
                model(**batch).loss.backward()

    A forward pass is one of training if the module is in training mode and gradients are recorded: evaluation
    and `generate` never see noise. Only the output of `get_input_embeddings()` changes: position tables and a
    tied output head do not. Where the module rescales its output (Gemma in transformers 5), alpha refers to
    the scaled embeddings.

    A pair in mode "concat" is one pass over 2B rows, X + e first. The module given here doubles its own call:
    all (B, ...) tensors, labels and num_items_in_batch, so that the loss is the mean over the 2B rows
    (2312.01523, Algorithm 2) and its logits have 2B rows. In mode "sequential" the caller makes two passes,
    chosen by `half`, and averages their losses: the same gradient for half the activation memory.

    Works for whatever has `get_input_embeddings`, also inside DDP, FSDP, PEFT and torch.compile: give the
    module that the loop calls. A loop that calls something else on the way to the embedding describes the
    batch by `at`.
    """

    def __init__(self, model: nn.Module, noise: Noise, seed: int, pair_mode: PairMode = "concat") -> None:
        """Prepare; nothing is attached before `with`.

        Args:
            model: the module that is called for a training forward.
            noise: what to add.
            seed: of the noise alone.
            pair_mode: "concat" or "sequential"; without effect when noise.pair is "none".

        Raises:
            ValueError: no input embedding, or an unknown pair_mode.
        """
        if pair_mode not in ("concat", "sequential"):
            raise ValueError(f"pair_mode={pair_mode!r}: choose from concat, sequential")
        self.noise, self.seed, self.pair_mode = noise, seed, pair_mode
        self.measure = False
        self.last: NoiseStatistics | None = None
        self._model, self._embedding = model, input_embedding(model)
        self.stopwatch = Stopwatch()  # of drawing and adding the noise, without measuring it
        self._handles: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        """Nothing said, nothing seen."""
        self._place: Place | None = None
        self._told = False
        self._half = 0
        self._added: tuple[Tensor | None] | None = None
        self._pending: Tokens | None = None
        self._done: set[int] = set()
        self._forwards = 0

    def __enter__(self) -> Self:
        if self._embedding in _ATTACHED:
            raise ValueError("this model has embedding noise attached already: leave the first EmbeddingNoise")
        if hasattr(self._embedding, "neftune_noise_alpha"):
            raise ValueError("neftune_noise_alpha is set on this model: transformers' own noise would add to this one")
        _ATTACHED.add(self._embedding)
        self._reset()
        self._handles = [
            self._model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            self._model.register_forward_hook(self._after_model),
            self._embedding.register_forward_hook(self._after_embedding),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        _ATTACHED.discard(self._embedding)
        if error is None and self._told and not self._forwards:
            raise ValueError("no training forward reached the input embedding: the whole training was without noise")

    def at(
        self,
        *,
        step: int,
        micro_batch: int = 0,
        rank: int | None = None,
        documents: Sequence[Identity] | None = None,
        progress: float | None = None,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        labels: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
    ) -> None:
        """Say what the next forward pass is: its key and, if the model call does not show it, its batch.

        Holds for one forward pass (in mode "sequential" one of each half) and replaces everything said
        before. A loop that never calls it gets the number of training forwards as step.

        Args:
            step, micro_batch, rank, documents: the key, see `noise_generators`; with `documents` only step
                and documents count. rank defaults to that of torch.distributed.
            progress: share of training done, for a schedule.
            attention_mask, document_ids, labels, special_tokens_mask: (B, L) as in `perturb`, of the rows
                before doubling. With attention_mask given, nothing is read from the model call, and a call
                that has 2B rows already is not doubled again. Without it, document_ids and
                special_tokens_mask complete the call.
        """
        if not self._handles:
            raise ValueError("nothing is attached: `at` is for inside `with`")
        tokens = None
        if attention_mask is not None:
            tokens = Tokens(attention_mask, document_ids, labels, special_tokens_mask)
        elif labels is not None:
            raise ValueError("labels given to `at` without attention_mask: give both or neither")
        self._told = True
        rank = rank_of_process() if rank is None else rank
        self._start(Place(step, micro_batch, rank, documents, progress, tokens, document_ids, special_tokens_mask))

    def half(self, index: int) -> None:
        """Choose the half for the next forward pass of mode "sequential".

        Args:
            index: 0 for X + e; 1 for X - e or the second draw, from the same keys as the half 0 before it.
        """
        if index not in (0, 1) or self.pair_mode != "sequential" or self.noise.pair == "none":
            raise ValueError(
                f"half {index} with pair={self.noise.pair!r}, pair_mode={self.pair_mode!r}: "
                "0 or 1, for a pair in mode 'sequential'"
            )
        self._half = index

    @contextmanager
    def adding(self, perturbation_BLD: Tensor | None) -> Iterator[None]:
        """In the training passes inside, add this tensor to the embeddings and not the noise; None: nothing.

        For methods that find the perturbation themselves or need a clean pass. Gradients flow to the tensor. What
        it holds at padding is added, too.
        """
        if not self._handles:
            raise ValueError("nothing is attached: `adding` is for inside `with`")
        before, self._added = self._added, (perturbation_BLD,)
        try:
            yield
        finally:
            self._added = before

    def draw(self) -> Tensor:
        """The (first) noise of the batch that `at` described, (B, L, D) in float32 or wider; zero at padding.

        For the start of a perturbation that is then given to `adding`; each call repeats the same numbers.
        """
        place = self._place
        if place is None or place.tokens is None:
            raise ValueError("`draw` needs `at` with attention_mask before it")
        # The width from the weights: PEFT's layers around an embedding have no embedding_dim.
        weight: Any = self._embedding.weight
        tokens, dtype = place.tokens, torch.promote_types(weight.dtype, torch.float32)
        zeros_BLD = torch.zeros(*tokens.real_BL.shape, weight.shape[-1], dtype=dtype, device=weight.device)
        generators = noise_generators(self.seed, place.step, place.identities(len(tokens.lengths)), weight.device)
        return apply_noise(zeros_BLD[None], tokens, self.noise, generators, self.alpha, (0,))[0].clone()

    @property
    def alpha(self) -> float:
        """Strength in force after the schedule (for "dropout" the rate)."""
        return self.noise.strength(self._place.progress if self._place else None)

    @property
    def _halves(self) -> tuple[int, ...]:
        if self.noise.pair == "none":
            return (0,)
        return (0, 1) if self.pair_mode == "concat" else (self._half,)

    def _start(self, place: Place) -> None:
        self._place, self._half, self._pending, self._done = place, 0, None, set()

    @torch.compiler.disable
    def _before_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Read the batch from the model call; for a pair in one pass, double it."""
        self._pending = None
        if not is_training(module) or self._added is not None:
            return None
        if getattr(module, "_is_replica", False):
            raise ValueError("nn.DataParallel runs copies of the model in threads: start one process a GPU (torchrun)")
        call = named_arguments(args, kwargs)
        if not self._told and self._half == 0:
            self._start(Place(step=self._forwards, rank=rank_of_process()))
        if self._place is None:
            raise ValueError("half 1 without a half 0 before it")
        place = self._place
        self._pending = place.tokens or tokens_of_call(call, place.document_ids, place.special_tokens_mask)
        if len(self._halves) == 2 and len(call["input_ids"]) == len(self._pending.real_BL):
            call = double_rows(call)
        return ((call.pop("input_ids"),), call) if args else ((), call)

    @torch.compiler.disable
    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args, output
        if self._pending is not None:
            raise ValueError("a training forward did not call the input embedding: nothing was noised")

    @torch.compiler.disable
    def _after_embedding(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Replace the embeddings by noised ones."""
        del args
        if not is_training(module):
            return None
        if torch._C._current_graph_task_id() != -1:
            raise ValueError(
                "a forward pass inside backward: activation checkpointing of the whole model would draw its noise "
                "anew; checkpoint the layers (gradient_checkpointing_enable)"
            )
        if self._added is not None:
            return self._add(output, *self._added)
        place, tokens = self._take()
        halves, (rows, length) = self._halves, tokens.real_BL.shape
        if output.shape[:2] != (len(halves) * rows, length):
            raise ValueError(
                f"the embedding gave {tuple(output.shape)} for an attention_mask of {(rows, length)}: "
                f"pair={self.noise.pair!r}, pair_mode={self.pair_mode!r} need {len(halves) * rows} rows"
            )
        before_HBLD = output.unflatten(0, (len(halves), rows))
        with self.stopwatch.running(output.device):
            generators = noise_generators(self.seed, place.step, place.identities(len(tokens.lengths)), output.device)
            after_HBLD = apply_noise(before_HBLD, tokens, self.noise, generators, self.alpha, halves)
        if self.measure:
            self.last = realised_noise(before_HBLD, after_HBLD, tokens)
        return after_HBLD.flatten(0, 1)

    def _add(self, before_BLD: Tensor, perturbation_BLD: Tensor | None) -> Tensor:
        self._forwards += 1
        if perturbation_BLD is None:
            return before_BLD
        if perturbation_BLD.shape != before_BLD.shape:
            raise ValueError(
                f"perturbation of shape {tuple(perturbation_BLD.shape)}: the embedding gave {tuple(before_BLD.shape)}"
            )
        after_BLD = before_BLD + perturbation_BLD.to(before_BLD.dtype)
        if self.measure and self._place is not None and self._place.tokens is not None:
            self.last = realised_noise(before_BLD[None], after_BLD[None], self._place.tokens)
        return after_BLD

    def _take(self) -> tuple[Place, Tokens]:
        """The place and layout of the forward pass under way, which end with this call of the embedding."""
        place, tokens = self._place, self._pending
        if tokens is None and place is not None:
            tokens = place.tokens
        if place is None or tokens is None:
            raise ValueError(
                "the input embedding was called twice in one forward pass, or outside of the module given to "
                "EmbeddingNoise; where the loop calls another, give attention_mask to `at` before each pass"
            )
        if self._done.issuperset(self._halves):
            raise ValueError(
                "the input embedding was called twice in one forward pass, or `at` not before this one: "
                "it holds for one pass (in mode 'sequential' for one of each half)"
            )
        self._pending = None
        self._done.update(self._halves)
        self._forwards += self._half == 0
        return place, tokens
