"""Decoding steps of fixed shapes, which a GPU replays as CUDA graphs: one launch a step instead of thousands.

A graph is recorded for a number of rows and a number of attended positions. Fewer rows are filled up with empty ones,
which write to a scratch position past the longest sequence, and shorter rows attend over positions that are masked. So
the answers are those of `LlamaDecoder.decode`, but for sums in another order.

Shapes: S active slots, R rows of a step, A attended positions of a step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.generate.cache import SlotCache
from harness.generate.decoder import LlamaDecoder

_POSITIONS = 256  # attended positions come in multiples of this
_WARM_UPS = 2  # before a recording: libraries set themselves up in their first calls


@dataclass
class _Step:
    """One shape: its inputs, (R,) each, and what gives the logits (R, V) after them."""

    tokens: Tensor
    positions: Tensor
    run: Callable[[], Tensor]


class StaticSteps:
    """`LlamaDecoder.decode` in steps of fixed shapes, each recorded when it is first needed.

    Without a GPU the same steps are computed and not recorded.
    """

    def __init__(self, decoder: LlamaDecoder, cache: SlotCache) -> None:
        """Prepare; nothing is recorded.

        Args:
            cache: with a position more than any slot will hold: the scratch position.
        """
        self._decoder, self._cache = decoder, cache
        self._slots, self._scratch = cache.keys.shape[1], cache.keys.shape[3] - 1
        self._steps: dict[tuple[int, int], _Step] = {}
        self._pool: Any = None

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Append one token to each of the first S slots and return the float32 logits after it, (S, V).

        They are overwritten by the next step.
        """
        step = self._step(self._rows(len(tokens)), self._attended(max(positions) + 1))
        empty = len(step.tokens) - len(tokens)
        step.tokens.copy_(torch.tensor([*tokens, *[0] * empty]))
        step.positions.copy_(torch.tensor([*positions, *[self._scratch] * empty]))
        return step.run()[: len(tokens)]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and attended positions of the steps so far."""
        return sorted(self._steps)

    def _rows(self, active: int) -> int:
        """The next power of two, at most all slots."""
        return min(1 << (active - 1).bit_length(), self._slots)

    def _attended(self, longest: int) -> int:
        return min(-(-longest // _POSITIONS) * _POSITIONS, self._scratch)

    def _step(self, rows: int, attended: int) -> _Step:
        found = self._steps.get((rows, attended))
        if found is not None:
            return found
        device = self._decoder.device
        tokens_R = torch.zeros(rows, dtype=torch.int64, device=device)
        positions_R = torch.full((rows,), self._scratch, dtype=torch.int64, device=device)

        def compute() -> Tensor:
            return self._decoder.decode_fixed(tokens_R, positions_R, attended, self._cache)

        step = _Step(tokens_R, positions_R, self._recorded(compute) if device.type == "cuda" else compute)
        self._steps[rows, attended] = step
        return step

    def _recorded(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record while all rows are empty: what the warm-up writes goes to the scratch position."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits_RV = compute()

        def replay() -> Tensor:
            graph.replay()
            return logits_RV

        return replay
