"""Helpers for the checks: device, sizes, timing, a Llama with random weights, packed documents."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.batching import Batch, Document, micro_batches


@dataclass(frozen=True)
class Finding:
    """One line of a check: `good` says whether it is as expected; None: a number to read."""

    name: str
    value: str
    good: bool | None = None

    def line(self) -> str:
        verdict = {True: "ok     ", False: "WRONG  ", None: ""}[self.good]
        return f"  {self.name}: {verdict}{self.value}"


class Setting:
    """Where the checks run: on the GPU at the sizes of a 7B model, or at toy size on a CPU."""

    def __init__(self, cpu: bool) -> None:
        self.cpu = cpu
        self.device = torch.device("cpu" if cpu else "cuda")

    def size(self, on_gpu: int, on_cpu: int) -> int:
        return on_cpu if self.cpu else on_gpu

    def wait(self) -> None:
        if not self.cpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if not self.cpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def milliseconds(self, function: Callable[[], object], repeats: int = 10) -> float:
        """Milliseconds of one call, after two for warming up."""
        repeats = self.size(repeats, 1)
        for _ in range(self.size(2, 1)):
            function()
        self.wait()
        started = time.perf_counter()
        for _ in range(repeats):
            function()
        self.wait()
        return 1000 * (time.perf_counter() - started) / repeats

    def llama(self, layers: int, dtype: torch.dtype = torch.float32, hidden: int = 4096, heads: int = 32) -> Any:
        """LLaMA-2-7B's layers with random weights, at another width if given."""
        from transformers import AutoConfig, AutoModelForCausalLM

        hidden, heads = self.size(hidden, 64), self.size(heads, 4)
        config = AutoConfig.for_model(
            "llama",
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=self.size(hidden * 43 // 16, 128),
            vocab_size=self.size(32_000, 512),
            max_position_embeddings=4096,
        )
        torch.manual_seed(0)
        with self.device:
            return AutoModelForCausalLM.from_config(config, dtype=dtype)

    def packed(self, lengths: Sequence[int]) -> Batch:
        """One row of documents, every token a target."""
        documents = [document(index, length) for index, length in enumerate(lengths)]
        (batch,) = micro_batches(documents, layout="packed")
        return batch.to(self.device)


def document(index: int, length: int, vocabulary: int = 500) -> Document:
    ids = np.random.default_rng(index).integers(3, vocabulary, length)
    return Document(index, ids, ids.copy())


def difference(ours: Tensor, reference: Tensor) -> float:
    """Norm of the difference relative to the reference's."""
    wide = ours.detach().cpu().double() - reference.detach().cpu().double()
    return float(wide.norm() / reference.detach().cpu().double().norm())
