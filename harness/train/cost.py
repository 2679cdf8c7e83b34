"""The cost of training: rows, tokens, FLOPs and seconds as forwarded (a pair counts twice), over all ranks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.config.budget import Cost


class Meter:
    """Cumulative counts of one training; continues from the `state` in the checkpoint of an interrupted one.

    Args:
        state: empty at the start.
        size: sizes of the model, for the FLOPs.
        cost: passes of every document per step.
    """

    def __init__(self, state: Mapping[str, float], size: ModelSize, cost: Cost) -> None:
        self.documents = int(state.get("documents", 0))
        self.rows = int(state.get("rows", 0))
        self.tokens = int(state.get("tokens", 0))
        self.flops = float(state.get("flops", 0.0))
        self._size, self._cost = size, cost
        self._seconds_before = float(state.get("seconds", 0.0))
        self._tokens_before = self.tokens
        self._started = time.monotonic()

    def count(self, documents: int, tokens: int, squares: int) -> None:
        """Add one effective batch: its documents, their real tokens, and the sum of their squared lengths."""
        self.documents += documents
        self.rows += self._cost.forwards * documents
        self.tokens += self._cost.forwards * tokens
        self.flops += flops(self._size, self._cost, tokens, squares)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block."""
        started = time.monotonic()
        yield
        self._started += time.monotonic() - started

    @property
    def attempt_seconds(self) -> float:
        """Training time of this attempt."""
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def seconds(self) -> float:
        """Training time so far, over all attempts."""
        return self._seconds_before + self.attempt_seconds

    def state(self) -> dict[str, float]:
        """The state that a checkpoint keeps, from which counting continues."""
        counts = {name: getattr(self, name) for name in ("documents", "rows", "tokens", "flops")}
        return {**counts, "seconds": self.seconds}

    def rate(self) -> float:
        """Real tokens forwarded per second in this attempt."""
        return (self.tokens - self._tokens_before) / self.attempt_seconds

    def row(self) -> dict[str, float]:
        """The counts as metrics: documents trained on (repeats counted), rows and real tokens forwarded, FLOPs."""
        return {
            "train/documents": self.documents,
            "train/rows": self.rows,
            "train/tokens": self.tokens,
            "train/flops": self.flops,
            "train/seconds": round(self.seconds, 3),
            "train/tokens_per_second": round(self.rate(), 1),
        }


@dataclass(frozen=True)
class ModelSize:
    """The sizes that determine a model's FLOPs.

    Attributes:
        parameters: number of those in matrix products: without the input embedding, with the head (once if tied).
            Position tables and vectors are too small to be excluded.
        trainable: number of these with a gradient.
        attention: layers x width of the queries; 0 without attention.
    """

    parameters: int
    trainable: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> ModelSize:
        """Read the sizes from a causal language model before it is sharded."""
        table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        used = [each for each in model.parameters() if each is not table or each is head]
        config = model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 0
        width = heads * (getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0))
        return cls(
            sum(_numbers(each) for each in used),
            sum(_numbers(each) for each in used if each.requires_grad),
            getattr(config, "num_hidden_layers", 0) * width,
        )


def _numbers(parameter: Any) -> int:
    """Number of weights in a parameter; bitsandbytes packs two 4-bit weights into one byte."""
    count: int = parameter.numel()
    return 2 * count if type(parameter).__name__ == "Params4bit" and parameter.element_size() == 1 else count


def flops(size: ModelSize, cost: Cost, tokens: int, squares: int) -> int:
    """Floating-point operations of one optimiser step, estimated.

    A token costs 2 N forward, 2 N backward to the activations and 2 N more to the parameters: 6 N for plain training
    (Kaplan et al. 2001.08361, Section 2.1), and less for the frozen ones. Attention adds
    4 x layers x width x L for a token in a document of L tokens forward and twice that backward, causal or not
    (Chowdhery et al. 2204.02311, Appendix B). Only real tokens count: no padding, no recomputation under gradient
    checkpointing, but the head at every token although it runs only at labelled ones.

    Args:
        tokens: in the documents of the step, each document once.
        squares: sum of L^2 over these documents.
    """
    forward = 2 * size.parameters * tokens + 4 * size.attention * squares
    inputs = 2 * size.parameters * tokens + 8 * size.attention * squares
    parameters = 2 * size.trainable * tokens
    return cost.forwards * forward + (cost.backwards + cost.input_backwards) * inputs + cost.backwards * parameters


def squared_lengths(lengths: Iterable[int]) -> int:
    """Sum of L^2 over documents of these lengths."""
    return sum(length * length for length in lengths)
