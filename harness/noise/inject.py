"""Noise in other people's loops: attached to a model while it trains, always detached afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn

from harness.noise.definition import Noise
from harness.noise.embedding import OtherTables, input_embedding, is_training
from harness.noise.pairs import HALF, is_flat, paired
from harness.noise.perturbation import apply_noise, apply_to_halves
from harness.noise.randomness import DocumentKey, ForwardKey, noise_generators, rank_of_process
from harness.noise.statistics import NoiseStatistics, Stopwatch, realised_noise
from harness.noise.tokens import CalledBatch, Tokens, named_arguments, tokens_of_call

_ATTACHED: WeakSet[nn.Module] = WeakSet()


class EmbeddingNoise:
    """Noise on the input embedding of a model, inside `with`, in training forward passes only.

        with EmbeddingNoise(model, Noise(distribution="rademacher", pair="antithetic"), seed=0) as noise:
            for step, batch in enumerate(batches):
                noise.at(step=step)
                model(**batch).loss.backward()

    A forward pass counts as training if the module is in training mode and gradients are recorded: evaluation
    and `generate` never see noise. Only the output of `get_input_embeddings()` changes, not position tables or a
    tied output head. Where the module rescales its output (Gemma in transformers 5), alpha refers to the scaled
    embeddings.

    A pair is one pass over 2B rows, X + e first. Where the loss is the model's own, the module given here doubles its
    call: all (B, ...) tensors, labels and num_items_in_batch, so that the loss is the mean over the 2B rows
    (2312.01523, Algorithm 2) and its logits have 2B rows. Where the loop computes the loss, it doubles the batch itself
    by `harness.noise.paired`. A loop without memory for 2B rows can take one half after the other, `at(half=...)`.

    Works for any model with `get_input_embeddings`, also inside DDP, FSDP, PEFT and torch.compile: pass the module that
    the loop calls. A loop that computes the embeddings itself needs no hook but `harness.noise.perturb`.
    """

    def __init__(
        self,
        model: nn.Module,
        noise: Noise,
        seed: int,
        document_key: Callable[[list[int]], DocumentKey] | None = None,
        paired_batches: bool = False,
    ) -> None:
        """Prepare only; nothing is attached before `with`.

        Args:
            model: the module that is called for a training forward.
            noise: what to add.
            seed: of the noise alone.
            document_key: maps a document's token ids to its key, for when `at` names no documents; None: documents are
                keyed by position. `harness.noise.content_key` identifies a document by its tokens, in any order and
                packing.
            paired_batches: pairs come only from `harness.noise.paired`; the call is never doubled.

        Raises:
            ValueError: no input embedding, or layers that have embeddings of the tokens of their own.
        """
        self.noise, self.seed = noise, seed
        self.document_key, self.paired_batches = document_key, paired_batches
        self.measure = False
        self.last: NoiseStatistics | None = None
        self._model, self._embedding = model, input_embedding(model)
        self._others = OtherTables(model, self._embedding)
        if noise.distribution != "none":
            self._others.check_names()
        self.stopwatch = Stopwatch()  # of drawing and adding the noise, without measuring it
        self._handles: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        """Forget what was said and seen of the last forward pass."""
        self._key: ForwardKey | None = None
        self._told = False
        self._pending: CalledBatch | None = None
        self._used = False
        self._forwards = 0

    def __enter__(self) -> Self:
        if self._embedding in _ATTACHED:
            raise ValueError("this model already has embedding noise attached: leave the first EmbeddingNoise")
        if hasattr(self._embedding, "neftune_noise_alpha"):
            raise ValueError(
                "neftune_noise_alpha is set on this model: transformers' own noise would be added to this one"
            )
        _ATTACHED.add(self._embedding)
        self._reset()
        # Not as decorators: torch.compiler.disable imports torch._dynamo, which would take seconds on import.
        before, after, noised = map(
            torch.compiler.disable, (self._before_model, self._after_model, self._after_embedding)
        )
        self._handles = [
            self._model.register_forward_pre_hook(before, with_kwargs=True),
            self._model.register_forward_hook(after),
            self._embedding.register_forward_hook(noised),
        ]
        if self.noise.distribution != "none":
            self._others.watch(self._others.refuse)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._others.close()
        _ATTACHED.discard(self._embedding)
        if error is None and self._told and not self._forwards:
            raise ValueError("no training forward reached the input embedding: training ran without noise")

    def at(
        self,
        *,
        step: int,
        micro_batch: int = 0,
        rank: int | None = None,
        documents: Sequence[DocumentKey] | None = None,
        progress: float | None = None,
        half: int | None = None,
        document_ids: Tensor | None = None,
        special_tokens_mask: Tensor | None = None,
    ) -> None:
        """Describe the next forward pass: its key, and what the model call does not show of its batch.

        Applies to one forward pass and replaces everything said before. In a loop that never calls it, the step is
        the number of training forward passes so far.

        Args:
            step, micro_batch, rank, documents: the key, see `noise_generators`; with `documents` only step
                and documents count. rank defaults to that of torch.distributed.
            progress: fraction of training done, for a schedule.
            half: of a pair, trained in two passes with half the activation memory: 0 for X + e; 1, with the same key,
                for X - e or the second draw. The gradient of the mean of the two losses is that of the pair in one
                pass. None: both, the call is doubled.
            document_ids, special_tokens_mask: (B, L) as in `perturb`, of the rows before doubling.

        Raises:
            ValueError: outside of `with`, or a half where there is no pair.
        """
        if not self._handles:
            raise ValueError("nothing is attached: call `at` inside `with`")
        if half is not None and (half not in (0, 1) or self.noise.pair == "none"):
            raise ValueError(f"half={half} with pair={self.noise.pair!r}: 0 or 1, for a pair")
        self._told = True
        rank = rank_of_process() if rank is None else rank
        self._start(ForwardKey(step, micro_batch, rank, documents, progress, half, document_ids, special_tokens_mask))

    @property
    def alpha(self) -> float:
        """Current strength after the schedule (for "dropout" the rate)."""
        return self.noise.strength(self._key.progress if self._key else None)

    @property
    def _halves(self) -> tuple[int, ...]:
        if self.noise.pair == "none":
            return (0,)
        return (0, 1) if self._key is None or self._key.half is None else (self._key.half,)

    def _start(self, key: ForwardKey) -> None:
        self._key, self._pending, self._used = key, None, False

    def _before_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Read the batch from the model call; double it if a pair is wanted and it is not one yet."""
        self._pending = None
        half_BL = kwargs.pop(HALF, None)
        if not is_training(module):
            return args, kwargs
        if getattr(module, "_is_replica", False):
            raise ValueError(
                "nn.DataParallel runs copies of the model in threads: start one process per GPU (torchrun)"
            )
        call = named_arguments(args, kwargs)
        if not self._told:
            self._start(ForwardKey(step=self._forwards, rank=rank_of_process()))
        key = self._key
        assert key is not None
        tokens = tokens_of_call(call, key.document_ids, key.special_tokens_mask)
        if half_BL is not None:
            self._check_halves(call)
            if key.half is not None:
                raise ValueError(f"half={key.half} with a batch of both halves ({HALF}): one or the other")
        elif len(self._halves) == 2:
            call, half_BL, tokens = self._double(call, tokens)
        self._pending = CalledBatch(call["input_ids"], tokens, half_BL)
        self._others.reading(call["input_ids"])
        return ((call.pop("input_ids"),), call) if args else ((), call)

    def _check_halves(self, call: dict[str, Any]) -> None:
        if self.noise.pair == "none":
            raise ValueError(f"a batch of two halves ({HALF}) for pair='none'")
        if self.noise.length != "true" and is_flat(call):
            raise ValueError(f"length={self.noise.length!r}: a flat row with every document twice is twice that long")

    def _double(self, call: dict[str, Any], tokens: Tokens) -> tuple[dict[str, Any], Tensor | None, Tokens]:
        """Double the rows of the call, and num_items_in_batch, so that the loss stays a mean.

        Returns:
            For 2B rows: None and the layout of B. For a flat row with every document twice: its halves and layout.
        """
        if self.paired_batches:
            raise ValueError(
                f"pair={self.noise.pair!r}: a training batch without {HALF}; the trainer does not read it from the "
                "data loader that it trained with when training began"
            )
        if call.get("fused_lm_head"):
            raise ValueError(
                "this trainer computes the loss outside of the model's call (fused_lm_head), which would count a "
                "doubled call twice; use harness.noise.callback.NoiseCallback, or harness.noise.paired on the batch"
            )
        items, flat = call.pop("num_items_in_batch", None), is_flat(call)
        call = paired(call)
        half_BL = call.pop(HALF)
        if items is not None:
            call["num_items_in_batch"] = items * 2
        if not flat:
            return call, None, tokens
        self._check_halves(call)
        return call, half_BL, tokens_of_call(call)

    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args, output
        if self._pending is not None:
            raise ValueError("a training forward did not call the input embedding: nothing was noised")
        if self._forwards:
            self._others.close()

    def _after_embedding(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Replace the embeddings with noised ones."""
        del args
        if not is_training(module):
            return None
        if torch._C._current_graph_task_id() != -1:
            raise ValueError(
                "a forward pass inside backward: activation checkpointing of the whole model would draw its noise "
                "again; checkpoint the layers (gradient_checkpointing_enable)"
            )
        key, batch = self._take()
        if batch.half is not None:
            return self._add_to_halves(output, key, batch)
        tokens, halves = batch.tokens, self._halves
        rows, length = tokens.real_BL.shape
        if output.shape[:2] != (len(halves) * rows, length):
            raise ValueError(
                f"the embedding gave {tuple(output.shape)} for a call with {(rows, length)} tokens: "
                f"pair={self.noise.pair!r} needs {len(halves) * rows} rows of {length}"
            )
        before_HBLD = output.unflatten(0, (len(halves), rows))
        with self.stopwatch.running(output.device):
            generators = noise_generators(self.seed, key.step, self._document_keys(key, batch), output.device)
            after_HBLD = apply_noise(before_HBLD, tokens, self.noise, generators, self.alpha, halves)
        if self.measure:
            self.last = realised_noise(before_HBLD, after_HBLD, tokens)
        return after_HBLD.flatten(0, 1)

    def _add_to_halves(self, before_BLD: Tensor, key: ForwardKey, batch: CalledBatch) -> Tensor:
        """Noise of a batch that is a pair already."""
        assert batch.half is not None
        if before_BLD.shape[:2] != batch.half.shape:
            raise ValueError(f"the embedding gave {tuple(before_BLD.shape)} for {tuple(batch.half.shape)} tokens")
        with self.stopwatch.running(before_BLD.device):
            generators = noise_generators(self.seed, key.step, self._document_keys(key, batch), before_BLD.device)
            after_BLD = apply_to_halves(before_BLD, batch.tokens, self.noise, generators, self.alpha, batch.half)
        if self.measure:
            found = realised_noise(before_BLD[None], after_BLD[None], batch.tokens)
            self.last = replace(found, norm=batch.by_half(found.norm), ratio=batch.by_half(found.ratio))
        return after_BLD

    def _document_keys(self, key: ForwardKey, batch: CalledBatch) -> Sequence[DocumentKey]:
        """Of each document of the layout; the two copies of one have one key."""
        count = len(batch.tokens.lengths)
        if key.documents is None and self.document_key is not None:
            return batch.keys(self.document_key)
        if batch.half is None:
            return key.document_keys(count)
        return [*key.document_keys(count // 2)] * 2

    def _take(self) -> tuple[ForwardKey, CalledBatch]:
        """Key and layout of the forward pass under way, which end with this call of the embedding."""
        key, batch = self._key, self._pending
        if key is None or batch is None:
            raise ValueError(
                "the input embedding was called twice in one forward pass, or outside of the module given to "
                "EmbeddingNoise: give it the module that the loop calls"
            )
        if self._used:
            raise ValueError("a second forward pass with the same key: call `at` before each pass, or never")
        self._pending, self._used = None, True
        self._forwards += 1
        return key, batch
