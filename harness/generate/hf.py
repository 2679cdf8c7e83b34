"""transformers' `generate` in batches: for any architecture, and the reference for our own engine.

Batches are sorted by prompt length and padded on the left. Padding is known from the attention mask alone, never from
token ids: the padding id may be the end token (SmolLM2) or occur in prompts. That is why the repetition penalty and
the stopping rule are our own: transformers' penalty counts padding as text, so with pad == eos it would keep every
padded row from ending.

Shapes: B rows, T tokens of the padded batch so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from harness.generate.cache import cache_room, rows_within
from harness.generate.penalty import apply_repetition_penalty
from harness.generate.sampling import Chooser
from harness.generate.settings import Completion, FinishReason, GenerationSettings, ProgressCallback, Request


@torch.no_grad()  # not inference_mode: some models keep buffers that their forward pass makes
def generate_with_transformers(
    model: Any,
    requests: Sequence[Request],
    settings: GenerationSettings,
    eos_token_ids: frozenset[int],
    pad_token_id: int,
    progress: ProgressCallback | None,
) -> dict[int, Completion]:
    """Answer all `requests`, completions by request index, with any model that has transformers' `generate`."""
    width = max(len(request.prompt) for request in requests) + max(request.budget for request in requests)
    room = settings.cache_gib or cache_room(model.device)
    rows = rows_within(model.config, model.dtype, width, settings.batch_size, room, tensor_shards(model))
    stop = _RowStop(eos_token_ids, progress)
    choose, done = Chooser(settings), dict[int, Completion]()
    with _plain_generation_config(model):
        for batch in batches(requests, rows, _learned_positions(model.config)):
            done |= _generate_batch(model, batch, settings.repetition_penalty, choose, pad_token_id, stop)
    return done


def tensor_shards(model: Any) -> int:
    """Devices over which tensor parallelism has cut the model's layers; 1 without it."""
    meshes = [parameter.device_mesh for parameter in model.parameters() if hasattr(parameter, "device_mesh")]
    return int(meshes[0].size()) if meshes else 1


def batches(requests: Sequence[Request], rows: int, positions: int | None) -> Iterator[list[Request]]:
    """Split requests, sorted longest first, into batches of at most `rows`.

    A row that has ended runs on until its batch has, so with a table of `positions` the longest prompt of a batch
    must have room for the batch's largest budget.
    """
    batch: list[Request] = []
    for request in requests:
        outgrown = batch and positions is not None and len(batch[0].prompt) + request.budget > positions
        if outgrown or len(batch) == rows:
            yield batch
            batch = []
        batch.append(request)
    yield batch


def _learned_positions(config: Any) -> int | None:
    """Size of the table of position embeddings; None for rotary ones, which have no limit."""
    rotary = getattr(config, "rope_parameters", None) is not None
    return None if rotary else getattr(config, "max_position_embeddings", None)


def _generate_batch(
    model: Any, batch: Sequence[Request], penalty: float, choose: Chooser, pad_token_id: int, stop: _RowStop
) -> dict[int, Completion]:
    prompts_BT, mask_BT = left_pad([request.prompt for request in batch], pad_token_id)
    prompts_BT, mask_BT = prompts_BT.to(model.device), mask_BT.to(model.device)
    stop.start(batch, prompts_BT)
    processors: list[LogitsProcessor] = [_MaskedPenalty(penalty, prompts_BT, mask_BT)]
    if choose.samples:
        processors.append(_Drawn(choose, batch, prompts_BT.shape[1]))
    # generate itself derives position ids from the attention mask
    sequences_BT = model.generate(
        input_ids=prompts_BT,
        attention_mask=mask_BT,
        max_new_tokens=max(request.budget for request in batch),
        do_sample=False,
        use_cache=True,
        pad_token_id=pad_token_id,
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList([stop]),
    )
    answers = sequences_BT[:, prompts_BT.shape[1] :].tolist()
    return {request.index: stop.completion(row, answers[row]) for row, request in enumerate(batch)}


def left_pad(prompts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 (B, T) each, of prompts padded on the left to the longest."""
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]
    ids_BT = [[pad_token_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(ids_BT), torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])


class _MaskedPenalty(LogitsProcessor):
    """The repetition penalty over prompt and answer, but not over padding."""

    supports_continuous_batching = False

    def __init__(self, penalty: float, prompts_BT: Tensor, mask_BT: Tensor) -> None:
        self._penalty = penalty
        # Padding is overwritten with the row's last prompt token, which is penalised anyway (see penalty.py).
        self._prompts_BT = torch.where(mask_BT.bool(), prompts_BT, prompts_BT[:, -1:])

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        answers_BT = input_ids[:, self._prompts_BT.shape[1] :]
        history_BT = torch.cat([self._prompts_BT, answers_BT], dim=1)
        return apply_repetition_penalty(scores, history_BT, self._penalty)  # type: ignore[return-value]


class _Drawn(LogitsProcessor):
    """Leaves one token of each row: the one drawn for it, which greedy decoding then takes."""

    supports_continuous_batching = False

    def __init__(self, choose: Chooser, batch: Sequence[Request], width: int) -> None:
        self._choose, self._batch, self._width = choose, batch, width

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        steps = [input_ids.shape[1] - self._width] * len(self._batch)
        chosen_B = self._choose(scores, self._batch, steps)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen_B[:, None], 0.0)  # type: ignore[return-value]


class _RowStop(StoppingCriteria):
    """Ends each row at its own end token or its own budget, and remembers where and why."""

    def __init__(self, eos_token_ids: frozenset[int], progress: ProgressCallback | None) -> None:
        self._eos = sorted(eos_token_ids)
        self._progress = progress
        self._generated = 0

    def start(self, batch: Sequence[Request], prompts_BT: Tensor) -> None:
        """Begin a batch of `prompts_BT`."""
        device, self._width = prompts_BT.device, prompts_BT.shape[1]
        self._budgets_B = torch.tensor([request.budget for request in batch], device=device)
        self._eos_E = torch.tensor(self._eos, dtype=torch.int64, device=device)
        self._lengths_B = torch.zeros(len(batch), dtype=torch.int64, device=device)
        self._running_B = torch.ones(len(batch), dtype=torch.bool, device=device)
        self._stopped_B = torch.zeros_like(self._running_B)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> Tensor:  # noqa: ARG002
        length = input_ids.shape[1] - self._width
        ended_B = torch.isin(input_ids[:, -1], self._eos_E) & self._running_B
        full_B = (self._budgets_B <= length) & self._running_B
        self._stopped_B |= ended_B
        self._lengths_B += self._running_B & ~ended_B
        running = int(self._running_B.sum())
        self._running_B &= ~(ended_B | full_B)
        self._generated += running
        if self._progress is not None:
            self._progress(self._generated, running - int(self._running_B.sum()))
        return ~self._running_B

    def completion(self, row: int, answer: list[int]) -> Completion:
        """The row's answer, cut at its end token or budget."""
        reason: FinishReason = "stop" if bool(self._stopped_B[row]) else "length"
        return Completion(answer[: int(self._lengths_B[row])], reason, "transformers")


@contextmanager
def _plain_generation_config(model: Any) -> Iterator[None]:
    """Set the model's own generation defaults (end tokens, sampling, penalties) aside: only the settings count."""
    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
