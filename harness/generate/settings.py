"""The input and output of generation: settings, requests, completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Backend = Literal["auto", "engine", "transformers"]
FinishReason = Literal["stop", "length"]
ProgressCallback = Callable[[int, int], None]  # (tokens generated so far, rows finished since the last call)


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are decoded: greedily (temperature 0) or by sampling, with the papers' repetition penalty.

    `max_new_tokens` bounds the answer and `max_length` prompt and answer together, both in tokens; where both are
    given the tighter one holds (transformers' `generate` would ignore `max_length`). `repetition_penalty` is
    the one of 1909.05858 as transformers applies it, over prompt and answer; 1.0 is none. At a `temperature` above 0
    tokens are drawn from the nucleus of `top_p`, by `seed` (sampling.py). `batch_size` is the largest
    number of rows decoded together; fewer are used where their key-value cache would pass `cache_gib` (GiB; None: what
    the device has free, see `harness.generate.cache.cache_room`). `cuda_graph` has the
    engine decode in steps of fixed shapes, which a GPU replays (`harness.generate.graphs`).

    Raises ValueError, naming key and value, for a value out of range.
    Source: NEFTune (2310.05914) appendix A: greedy, penalty 1.2, 2,048 tokens in all.
    """

    max_new_tokens: int | None = None
    max_length: int | None = 2048
    repetition_penalty: float = 1.2
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    backend: Backend = "auto"
    batch_size: int = 64
    cache_gib: float | None = None
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens is None and self.max_length is None:
            raise ValueError("max_new_tokens and max_length are both None: give at least one")
        for key in ("max_new_tokens", "max_length", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        for key in ("repetition_penalty", "cache_gib"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{key}={value} must be a positive, finite number")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature} must be a finite number, 0 or above")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be above 0 and at most 1")
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend={self.backend!r} must be one of {', '.join(get_args(Backend))}")


@dataclass(frozen=True)
class Completion:
    """One answer: its token ids without prompt and end token, why it ended, and which backend made it."""

    token_ids: list[int]
    finish_reason: FinishReason
    backend: str


@dataclass(frozen=True)
class Request:
    """One prompt in work: its place in the caller's list, its ids, how many tokens it may get, which sample."""

    index: int
    prompt: list[int]
    budget: int
    sample: int = 0

    @property
    def cached_tokens(self) -> int:
        """Positions it can need in the key-value cache: the last generated token is never fed back."""
        return len(self.prompt) + self.budget - 1


def plan_requests(
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    max_positions: int | None,
    samples: Sequence[int] | None = None,
) -> list[Request]:
    """Give every prompt its token budget and sort them, longest first so that the peak of memory comes first.

    `max_positions` is the longest sequence that the model has positions for (None: no limit); `samples` numbers the
    answers to equal prompts (None: all are the first).
    Raises ValueError for an empty prompt and, naming the first ten, for prompts that leave no room to answer.
    """
    totals = [limit for limit in (settings.max_length, max_positions) if limit is not None]
    total = min(totals) if totals else None
    empty = [index for index, prompt in enumerate(prompts) if not len(prompt)]
    if empty:
        raise ValueError(f"prompts {empty} are empty: generation needs at least one token to start from")
    if total is not None:
        over = [f"{index} ({len(prompt)} tokens)" for index, prompt in enumerate(prompts) if len(prompt) >= total]
        if over:
            limits = f"max_length={settings.max_length}, the model's positions={max_positions}"
            more = f" and {len(over) - 10} more" if len(over) > 10 else ""
            raise ValueError(f"prompts {', '.join(over[:10])}{more} leave no room for an answer within {limits}")
    requests = []
    for index, prompt in enumerate(prompts):
        rooms = [settings.max_new_tokens, None if total is None else total - len(prompt)]
        budget = min(room for room in rooms if room is not None)
        requests.append(Request(index, list(prompt), budget, samples[index] if samples else 0))
    return sorted(requests, key=lambda request: (-len(request.prompt), request.index))
