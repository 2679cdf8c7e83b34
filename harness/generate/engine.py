"""Continuous batching: every slot decodes one answer; when it ends, the slot takes the next prompt.

The loop, `_Batch.run`, does one of two things until nothing is left:

    refill   if an eighth of the slots is free: read the next prompts together (packed, no padding) into free slots
    decode   feed the latest token of every active slot to the model

Both end in `_take`: repetition penalty, the next token, and `_retire`: a slot whose answer ended is emptied and
the last active slot moves into the hole, so that the active slots are always the first ones.

Shapes: S active slots, C tokens that a slot can hold, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.generate.cache import cache_room, rows_within
from harness.generate.decoder import LlamaDecoder
from harness.generate.graphs import StaticSteps
from harness.generate.penalty import apply_repetition_penalty
from harness.generate.sampling import Chooser
from harness.generate.settings import Completion, FinishReason, GenerationSettings, ProgressCallback, Request

_PREFILL_TOKENS = 2048  # prompts read together: enough rows for full speed, with little memory for activations
_REFILL_SHARE = 8  # refill when 1/8 of the slots is free: larger packs, but more idle slots


@torch.inference_mode()
def generate_with_engine(
    model: PreTrainedModel,
    requests: Sequence[Request],
    settings: GenerationSettings,
    eos_token_ids: frozenset[int],
    progress: ProgressCallback | None,
) -> dict[int, Completion]:
    """Answer all `requests`, completions by request index; `supports(model)` must hold.

    Raises RuntimeError if the decoder does not reproduce the model's own logits (see `_check_decoder`).
    """
    capacity = max(request.cached_tokens for request in requests)
    decoder = LlamaDecoder(model, capacity + 1)
    width = capacity + 1 if settings.cuda_graph else capacity  # and a scratch position
    room = settings.cache_gib or cache_room(decoder.device)
    fitting = rows_within(model.config, model.dtype, width, settings.batch_size, room)
    _check_decoder(decoder, model, requests[0].prompt)
    batch = _Batch(decoder, requests, min(fitting, len(requests)), capacity, settings, eos_token_ids)
    return batch.run(progress)


class _Batch:
    """The slots and the requests that wait for one. Index i of every list and tensor is slot i."""

    def __init__(
        self,
        decoder: LlamaDecoder,
        requests: Sequence[Request],
        slots: int,
        capacity: int,
        settings: GenerationSettings,
        eos_token_ids: frozenset[int],
    ) -> None:
        self.decoder = decoder
        self.cache = decoder.new_cache(slots, capacity + 1 if settings.cuda_graph else capacity)
        self.steps = StaticSteps(decoder, self.cache) if settings.cuda_graph else None
        self.slots = slots
        self.penalty = settings.repetition_penalty
        self.choose = Chooser(settings)
        self.eos_token_ids = eos_token_ids
        self.waiting = deque(requests)
        self.active: list[Request] = []
        self.answers: list[list[int]] = []
        # Prompt and answer of each slot; past its length a row repeats its first token (see penalty.py).
        self.history_SC = torch.zeros(slots, capacity + 1, dtype=torch.int64, device=decoder.device)
        self.done: dict[int, Completion] = {}
        self.generated = 0

    def run(self, progress: ProgressCallback | None) -> dict[int, Completion]:
        while self.waiting or self.active:
            done_before = len(self.done)
            if self.waiting and (self.slots - len(self.active)) * _REFILL_SHARE >= self.slots:
                self._refill()
            else:
                self._decode()
            if progress is not None:
                progress(self.generated, len(self.done) - done_before)
        return self.done

    def _refill(self) -> None:
        first, tokens = len(self.active), 0
        while self.waiting and len(self.active) < self.slots:
            tokens += len(self.waiting[0].prompt)
            if tokens > _PREFILL_TOKENS and len(self.active) > first:
                break
            self._open(self.waiting.popleft())
        prompts = [request.prompt for request in self.active[first:]]
        self._take(first, self.decoder.prefill(prompts, self.cache, first))

    def _open(self, request: Request) -> None:
        slot = len(self.active)
        self.active.append(request)
        self.answers.append([])
        self.history_SC[slot] = request.prompt[0]
        self.history_SC[slot, : len(request.prompt)] = torch.tensor(request.prompt)

    def _decode(self) -> None:
        latest = [answer[-1] for answer in self.answers]
        cached = [self._tokens_in(slot) - 1 for slot in range(len(self.active))]
        if self.steps is not None:
            self._take(0, self.steps.decode(latest, cached))
        else:
            self._take(0, self.decoder.decode(latest, cached, self.cache))

    def _take(self, first: int, logits_SV: Tensor) -> None:
        """Choose the next token of the slots from `first` on, whose logits these are; retire those that end."""
        lengths = [self._tokens_in(slot) for slot in range(first, len(self.active))]
        history_SC = self.history_SC[first : len(self.active)]
        logits_SV = apply_repetition_penalty(logits_SV, history_SC[:, : max(lengths)], self.penalty)
        chosen_S = self.choose(logits_SV, self.active[first:], [len(answer) for answer in self.answers[first:]])
        history_SC.scatter_(1, torch.tensor(lengths, device=self.decoder.device)[:, None], chosen_S[:, None])
        self.generated += len(lengths)
        chosen = chosen_S.tolist()
        # Downwards: the slot that moves in has been handled already.
        for slot in range(len(self.active) - 1, first - 1, -1):
            self._add(slot, chosen[slot - first])

    def _add(self, slot: int, token: int) -> None:
        if token in self.eos_token_ids:
            self._retire(slot, "stop")
            return
        self.answers[slot].append(token)
        if len(self.answers[slot]) == self.active[slot].budget:
            self._retire(slot, "length")

    def _retire(self, slot: int, reason: FinishReason) -> None:
        last = len(self.active) - 1
        self.done[self.active[slot].index] = Completion(self.answers[slot], reason, "engine")
        self.cache.clear(slot, self._tokens_in(slot))
        if slot != last:
            self.cache.move(last, slot, self._tokens_in(last))
            self.history_SC[slot] = self.history_SC[last]
            self.active[slot], self.answers[slot] = self.active[last], self.answers[last]
        self.active.pop()
        self.answers.pop()

    def _tokens_in(self, slot: int) -> int:
        return len(self.active[slot].prompt) + len(self.answers[slot])


def _check_decoder(decoder: LlamaDecoder, model: PreTrainedModel, prompt: Sequence[int]) -> None:
    """Compare prefill and one decoding step with the model's own forward pass on a few tokens.

    It costs one short forward pass and ensures that no version of transformers changes answers unnoticed.
    """
    length = min(16, decoder.positions)
    tokens = (list(prompt) * length)[:length]
    cache = decoder.new_cache(1, length)
    decoder.prefill([tokens[:-1]], cache, 0)
    ours_V = decoder.decode(tokens[-1:], [length - 1], cache)[0]
    theirs_V = model(input_ids=torch.tensor([tokens], device=decoder.device)).logits[0, -1].float()
    # Rounding is about 1e-6 of the largest logit in fp32 and 1e-2 in bf16, a wrong formula far beyond. NaN compares
    # as no difference: a model that blew up gets its own meaningless text.
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    difference, scale = (ours_V - theirs_V).abs().max(), theirs_V.abs().max()
    if difference > tolerance * scale:
        name = type(model).__name__
        raise RuntimeError(
            f"backend=engine: {name}'s logits differ by {difference:.3g} (of {scale:.3g}) from its own forward pass; "
            "use backend=transformers"
        )
