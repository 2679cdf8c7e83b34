"""The key-value cache: a fixed number of slots, one per row of the batch, allocated once.

Shapes: S active slots, H key-value heads, C positions per slot, K head dimension, T tokens of one prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PretrainedConfig

_CPU_GIB = 4.0


class SlotCache:
    """Keys and values of every layer, (layers, slots, H, C, K) each; the active slots are always the first ones.

    Invariant: positions past a slot's own length are zero. Decoding masks them, but a masked infinity or NaN
    left by an earlier row would still spoil the sum over values (0 times NaN).
    """

    def __init__(self, layers: int, slots: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        shape = (layers, slots, heads, capacity, head_dim)
        # zeros, not empty: and on Linux pages that are never touched take no memory
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self._rows = torch.arange(slots, device=like.device)

    def write_prompt(self, layer: int, slot: int, keys_THK: Tensor, values_THK: Tensor) -> None:
        """Fill the first T positions of an empty slot."""
        length = len(keys_THK)
        self.keys[layer, slot, :, :length] = keys_THK.transpose(0, 1)
        self.values[layer, slot, :, :length] = values_THK.transpose(0, 1)

    def append(self, layer: int, positions_S: Tensor, keys_SHK: Tensor, values_SHK: Tensor) -> None:
        """Write one token to each of the first S slots, each at its own position."""
        rows_S = self._rows[: len(positions_S)]
        self.keys[layer, rows_S, :, positions_S] = keys_SHK
        self.values[layer, rows_S, :, positions_S] = values_SHK

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row of at most `length` tokens to the empty slot `target`."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]
        self.clear(source, length)

    def clear(self, slot: int, length: int) -> None:
        """Empty a slot that held at most `length` tokens."""
        self.keys[:, slot, :, :length] = 0
        self.values[:, slot, :, :length] = 0


def bytes_per_token(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one token takes in all layers."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kv_heads * head_dim * dtype.itemsize)


def cache_room(device: torch.device) -> float:
    """GiB for a key-value cache on a device that already holds the model.

    On a GPU 85% of the free memory, torch's reserve included, minus one GiB for activations. On a CPU 4: which rows are
    decoded together affects rounding, so it must not depend on how much memory happens to be free.
    """
    if device.type != "cuda":
        return _CPU_GIB
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0.0, 0.85 * (free + kept) / 2**30 - 1.0)


def rows_within(
    config: PretrainedConfig, dtype: torch.dtype, tokens: int, batch_size: int, gibibytes: float, shards: int = 1
) -> int:
    """How many rows of `tokens` cached tokens fit in `gibibytes`, at most `batch_size`.

    Args:
        shards: devices over which the heads are split.

    Raises ValueError if not even one does.
    """
    row = bytes_per_token(config, dtype) * tokens / shards
    rows = int(gibibytes * 2**30 // row)
    if not rows:
        need = row / 2**30
        raise ValueError(
            f"cache_gib={gibibytes:.3g}: one row of {tokens} tokens needs {need:.3g} GiB of key-value cache"
        )
    return min(rows, batch_size)
