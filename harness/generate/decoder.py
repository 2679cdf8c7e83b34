"""A Llama-like decoder for inference, over the weights of a transformers model.

The linear layers, the attention and the cache (cache.py) are our own. Embedding, norms, activation and rotary
embedding are the model's modules, so their variants need no second implementation. Prompts are packed without
padding; a decoding step takes one token of every active slot.

Shapes: N tokens being processed (T of packed prompts, or S, one per active slot), D hidden size, H key-value heads,
G query heads per key-value head, K head dimension, L attended positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from harness.generate.cache import SlotCache
from harness.models.onednn import FusedLinear

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # the others change their frequencies with the length
_BLOCK_SLOTS = 8  # slots per attention call: fewer calls, but more positions attended for nothing
_Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, queries_NHGK, keys_NHK, values_NHK -> context_ND


def supports(model: nn.Module) -> bool:
    """Whether `LlamaDecoder` computes what this model computes.

    It does for the MODEL_TYPES with full attention, rotary frequencies that do not depend on the length, one
    floating-point type on one device, and plain `nn.Linear` layers: not for adapters that are not merged, for
    quantised or sharded weights, or for modules with hooks, which would be bypassed.
    """
    if not isinstance(model, PreTrainedModel) or not type(model).__name__.endswith("ForCausalLM"):
        return False
    return supports_config(model.config) and _plain_weights(model)


def supports_config(config: Any) -> bool:
    """The part of `supports` that depends on the model's config alone, before there are weights."""
    return config.model_type in MODEL_TYPES and _full_attention(config) and _fixed_rotary(config)


def _full_attention(config: object) -> bool:
    layer_types = getattr(config, "layer_types", None) or ()
    return getattr(config, "sliding_window", None) is None and set(layer_types) <= {"full_attention"}


def _fixed_rotary(config: object) -> bool:
    parameters = getattr(config, "rope_parameters", None) or {}
    return parameters.get("rope_type", "default") in _ROPE_TYPES


def _plain_weights(model: nn.Module) -> bool:
    weights = list(model.parameters())
    if len({(weight.dtype, weight.device) for weight in weights}) != 1 or not weights[0].is_floating_point():
        return False
    if weights[0].device.type == "meta" or any(type(weight) is not nn.Parameter for weight in weights):
        return False
    projections = [module for name, module in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return not hooked and all(type(module) is nn.Linear for module in projections)


class _Layer:
    """One decoder layer: the model's norms and activation, with the linear layers fused."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm, self.post_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.query_norm = getattr(attention, "q_norm", None)  # Qwen3 normalises every head
        self.key_norm = getattr(attention, "k_norm", None)
        self.scaling: float = attention.scaling
        self.activation = mlp.act_fn
        self.qkv = FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = FusedLinear([attention.o_proj])
        self.gate_up = FusedLinear([mlp.gate_proj, mlp.up_proj])
        self.down = FusedLinear([mlp.down_proj])


class LlamaDecoder:
    """Next-token logits for packed prompts (`prefill`) and for one token per slot (`decode`)."""

    def __init__(self, model: Any, positions: int) -> None:
        """Pack the weights of `model` (see `supports`) for sequences of at most `positions` tokens."""
        config, body = model.config, model.model
        self.positions = positions
        self.head_dim: int = body.layers[0].self_attn.head_dim
        self.kv_heads: int = config.num_key_value_heads
        self.groups: int = config.num_attention_heads // self.kv_heads
        self.embedding, self.norm = body.embed_tokens, body.norm
        self.layers = [_Layer(layer) for layer in body.layers]
        self.head = FusedLinear([model.lm_head])
        weight = self.embedding.weight
        indices = torch.arange(positions, device=weight.device)[None]
        cos_1PK, sin_1PK = body.rotary_emb(weight[:1], indices)
        self._cos_PK, self._signed_sin_PK = cos_1PK[0], _signed(sin_1PK[0])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def new_cache(self, slots: int, capacity: int) -> SlotCache:
        """An empty cache of this model's shape, on its device and in its type."""
        like = self.embedding.weight
        return SlotCache(len(self.layers), slots, self.kv_heads, capacity, self.head_dim, like)

    def prefill(self, prompts: Sequence[Sequence[int]], cache: SlotCache, first_slot: int) -> Tensor:
        """Read prompts, packed one after the other, into the empty slots of `cache` from `first_slot` on.

        Returns the float32 logits after each prompt's last token, (prompts, V).
        """
        lengths = [len(prompt) for prompt in prompts]
        tokens_T = torch.tensor([token for prompt in prompts for token in prompt], device=self.device)
        positions_T = torch.cat([torch.arange(length) for length in lengths]).to(self.device)

        def attend(layer: int, queries_THGK: Tensor, keys_THK: Tensor, values_THK: Tensor) -> Tensor:
            pieces = zip(*(part.split(lengths) for part in (queries_THGK, keys_THK, values_THK)), strict=True)
            contexts = []
            for slot, (queries, keys, values) in enumerate(pieces, start=first_slot):
                cache.write_prompt(layer, slot, keys, values)
                contexts.append(self._causal_attention(layer, queries, keys, values))
            return torch.cat(contexts)

        hidden_TD = self._run_layers(tokens_T, positions_T, attend)
        last = torch.tensor(list(accumulate(lengths)), device=self.device) - 1
        return self._logits(hidden_TD[last])

    def decode(self, tokens: Sequence[int], positions: Sequence[int], cache: SlotCache) -> Tensor:
        """Append one token to each of the first S slots and return the float32 logits after it, (S, V).

        `positions` are the numbers of tokens that the slots hold already.
        """
        positions_S = torch.tensor(positions, device=self.device)
        blocks = list(_blocks(positions, cache.keys))

        def attend(layer: int, queries_SHGK: Tensor, keys_SHK: Tensor, values_SHK: Tensor) -> Tensor:
            cache.append(layer, positions_S, keys_SHK, values_SHK)
            contexts = [
                scaled_dot_product_attention(
                    queries_SHGK[slots],
                    cache.keys[layer, slots, :, :attended],
                    cache.values[layer, slots, :, :attended],
                    attn_mask=mask_B11L,
                    scale=self.layers[layer].scaling,
                )
                for slots, attended, mask_B11L in blocks
            ]
            return torch.cat(contexts).flatten(1)

        return self._logits(self._run_layers(torch.tensor(tokens, device=self.device), positions_S, attend))

    def decode_fixed(self, tokens_R: Tensor, positions_R: Tensor, attended: int, cache: SlotCache) -> Tensor:
        """`decode` for the first R slots at once, over `attended` positions, from tensors on the device alone.

        Nothing is read back and no shape depends on a value, so that a GPU can record it (graphs.py).
        """
        future_RA = torch.arange(attended, device=self.device) > positions_R[:, None]
        mask_R11A = torch.zeros_like(future_RA, dtype=cache.keys.dtype).masked_fill_(future_RA, float("-inf"))
        mask_R11A = mask_R11A[:, None, None]
        rows = len(tokens_R)

        def attend(layer: int, queries_RHGK: Tensor, keys_RHK: Tensor, values_RHK: Tensor) -> Tensor:
            cache.append(layer, positions_R, keys_RHK, values_RHK)
            keys, values = (each[layer, :rows, :, :attended] for each in (cache.keys, cache.values))
            scale = self.layers[layer].scaling
            return scaled_dot_product_attention(queries_RHGK, keys, values, attn_mask=mask_R11A, scale=scale).flatten(1)

        return self._logits(self._run_layers(tokens_R, positions_R, attend))

    def _run_layers(self, tokens_N: Tensor, positions_N: Tensor, attend: _Attend) -> Tensor:
        cos_N1K, sin_N1K = self._cos_PK[positions_N, None], self._signed_sin_PK[positions_N, None]
        hidden_ND = self.embedding(tokens_N)
        for index, layer in enumerate(self.layers):
            q, k, v = (part.unflatten(1, (-1, self.head_dim)) for part in layer.qkv(layer.input_norm(hidden_ND)))
            if layer.query_norm is not None and layer.key_norm is not None:
                q, k = layer.query_norm(q), layer.key_norm(k)
            q, k = _rotate(q, cos_N1K, sin_N1K), _rotate(k, cos_N1K, sin_N1K)
            context_ND = attend(index, q.unflatten(1, (self.kv_heads, self.groups)), k, v)
            hidden_ND = hidden_ND + layer.out(context_ND)[0]
            gate, up = layer.gate_up(layer.post_norm(hidden_ND))
            hidden_ND = hidden_ND + layer.down(layer.activation(gate) * up)[0]
        return hidden_ND

    def _causal_attention(self, layer: int, q_THGK: Tensor, k_THK: Tensor, v_THK: Tensor) -> Tensor:
        q, k, v = (part.transpose(0, 1)[None] for part in (q_THGK.flatten(1, 2), k_THK, v_THK))
        scale = self.layers[layer].scaling
        context = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        return context[0].transpose(0, 1).flatten(1)

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        return self.head(self.norm(hidden_ND))[0].float()


def _blocks(positions: Sequence[int], like: Tensor) -> Iterator[tuple[slice, int, Tensor]]:
    """Neighbouring slots that attend together: the slots, their common L, and their additive mask (B, 1, 1, L).

    All rows of a block attend over the longest one's positions, so blocks are small; the engine fills slots with the
    longest prompts first, so neighbours are of similar length.
    """
    # On a GPU the time goes into launches: one per layer.
    size = _BLOCK_SLOTS if like.device.type == "cpu" else len(positions)
    for start in range(0, len(positions), size):
        slots = slice(start, min(start + size, len(positions)))
        attended = max(positions[slots]) + 1
        held_B = torch.tensor(positions[slots], device=like.device)
        future_BL = torch.arange(attended, device=like.device) > held_B[:, None]
        mask_B11L = like.new_zeros(len(held_B), 1, 1, attended)
        yield slots, attended, mask_B11L.masked_fill_(future_BL[:, None, None], float("-inf"))


def _signed(sin_PK: Tensor) -> Tensor:
    """sin with its first half negated, so that `_rotate` can swap halves instead of negating one of them."""
    first, second = sin_PK.chunk(2, dim=-1)
    return torch.cat([-first, second], dim=-1)


def _rotate(x_NHK: Tensor, cos_N1K: Tensor, signed_sin_N1K: Tensor) -> Tensor:
    """Rotary embedding in transformers' layout (halves, not pairs): the same products and sums as its own."""
    swapped = torch.cat(x_NHK.chunk(2, dim=-1)[::-1], dim=-1)
    return x_NHK * cos_N1K + swapped * signed_sin_N1K
