"""The next token: the most likely one, or one drawn at a temperature with randomness of the answer's own.

Every answer has its own stream of numbers, keyed by (seed, prompt, number of the sample) and by nothing else. So it
comes out the same whatever else is decoded beside it, in any order, in batches of any size, on any number of ranks,
and by either of our backends. vLLM draws by itself, from a seed that is made of the same key.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from harness.generate.settings import GenerationSettings, Request

_NUCLEUS = 256  # the most likely tokens to look at first: nearly always the whole nucleus, and no sort of all


class Chooser:
    """Chooses next tokens as the settings say."""

    def __init__(self, settings: GenerationSettings) -> None:
        self._settings = settings
        self._streams: dict[int, np.ndarray] = {}

    @property
    def samples(self) -> bool:
        """Whether anything is drawn."""
        return self._settings.temperature > 0

    def __call__(self, logits_BV: Tensor, requests: Sequence[Request], steps: Sequence[int]) -> Tensor:
        """The next token of each row, int64 (B,).

        Args:
            logits_BV: float, after the repetition penalty.
            requests: of each row.
            steps: tokens that each answer has already; past its budget anything is chosen.
        """
        if not self.samples:
            return logits_BV.argmax(dim=1)
        drawn = [self._uniform(request, step) for request, step in zip(requests, steps, strict=True)]
        uniforms_B = torch.tensor(drawn, dtype=torch.float64, device=logits_BV.device)
        return draw(logits_BV, uniforms_B, self._settings.temperature, self._settings.top_p)

    def _uniform(self, request: Request, step: int) -> float:
        stream = self._streams.get(request.index)
        if stream is None:
            stream = self._streams[request.index] = uniforms(request, self._settings.seed)
        return float(stream[step]) if step < request.budget else 0.0


def draw(logits_BV: Tensor, uniforms_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """Tokens, int64 (B,), where the cumulated probabilities softmax(logits / temperature) pass the uniforms.

    Only the nucleus counts: the most likely tokens up to the first at which their sum reaches `top_p`, with all
    that are exactly as likely as the last of them (1904.09751, section 3.1; transformers' TopPLogitsWarper, which
    takes one of those). In double precision, and cumulated in the order of the ids: what rounds differently in
    another batch moves the borders by as little as it moves the probabilities.
    """
    chances_BV = torch.softmax(logits_BV.double() / temperature, dim=1)
    if top_p < 1:
        chances_BV = chances_BV.masked_fill(chances_BV < _least_of_nucleus(chances_BV, top_p), 0.0)
    sums_BV = chances_BV.cumsum(dim=1)
    total_B = sums_BV[:, -1]
    wanted_B = torch.minimum(uniforms_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    chosen_B1 = torch.searchsorted(sums_BV, wanted_B[:, None], right=True)
    return chosen_B1[:, 0].clamp(max=logits_BV.shape[1] - 1)  # NaN alone comes to V


def _least_of_nucleus(chances_BV: Tensor, top_p: float) -> Tensor:
    """Probability of the nucleus's least likely token, (B, 1)."""
    size = min(_NUCLEUS, chances_BV.shape[1])
    while True:
        best_BK = chances_BV.topk(size, dim=1).values
        sums_BK = best_BK.cumsum(dim=1)
        if size == chances_BV.shape[1] or bool((sums_BK[:, -1] >= top_p).all()):
            inside_BK = sums_BK - best_BK < top_p
            return best_BK.masked_fill(~inside_BK, 1.0).amin(dim=1, keepdim=True)
        size = chances_BV.shape[1]


def uniforms(request: Request, seed: int) -> np.ndarray:
    """Numbers in [0, 1) for each token that the answer may get, (budget,)."""
    return np.random.Generator(np.random.Philox(key=_key(request, seed, 16))).random(request.budget)


def vllm_seed(request: Request, seed: int) -> int:
    """63 bits for vLLM's own generator of this answer."""
    return _key(request, seed, 8) >> 1


def sample_numbers(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Which sample of its prompt each is: how many equal prompts stand before it."""
    seen: dict[tuple[int, ...], int] = {}
    numbers = []
    for prompt in map(tuple, prompts):
        numbers.append(seen.get(prompt, 0))
        seen[prompt] = numbers[-1] + 1
    return numbers


def _key(request: Request, seed: int, size: int) -> int:
    text = f"{seed},{request.sample}," + ",".join(map(str, request.prompt))
    return int.from_bytes(blake2b(text.encode(), digest_size=size, person=b"sample").digest(), "little")
