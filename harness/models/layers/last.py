"""The last decoder layer's feed-forward part at targets alone: nothing reads its output at other positions.

Of a model with four layers and short answers it is a tenth of a step.

B rows, T tokens of a row, D hidden size, N targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

# Their layers add attention and feed-forward part to the residual stream one after the other, each behind its norm.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
# Name of the keyword argument of the decoder, which hands it on to its layers.
PLACES = "target_places"


@contextmanager
def last_layer_at_targets(model: nn.Module) -> Iterator[bool]:
    """While inside, the decoder takes `target_places`, (N,) flat positions, and returns hidden states of (1, N, D).

    Yields whether it does: not for models of other kinds. Inside `packed_attention` alone, whose keyword arguments
    reach the layers; without `target_places` the model computes what it always does.
    """
    layer = _last_layer(model)
    if layer is None:
        yield False
        return
    layer.forward = partial(_forward, layer)
    try:
        yield True
    finally:
        del layer.forward


def takes_places(model: nn.Module) -> bool:
    """Whether the model is inside `last_layer_at_targets`, and that knows its kind."""
    layer = _last_layer(model)
    return layer is not None and getattr(vars(layer).get("forward"), "func", None) is _forward


def _last_layer(model: nn.Module) -> Any:
    config: Any = model.config
    if config.model_type not in MODEL_TYPES:
        return None
    layer = cast(Any, model).get_decoder().layers[-1]
    return layer if all(hasattr(layer, part) for part in _PARTS) else None


def _forward(layer: Any, hidden_states: Tensor, *args: Any, target_places: Tensor | None = None, **options: Any) -> Any:
    if target_places is None:
        return type(layer).forward(layer, hidden_states, *args, **options)
    attended_BTD, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **options)
    hidden_1ND = (hidden_states + attended_BTD).flatten(0, 1).index_select(0, target_places)[None]
    return hidden_1ND + layer.mlp(layer.post_attention_layernorm(hidden_1ND))


def at_places(of_tokens_BT: Tensor, places_N: Tensor) -> Tensor:
    """What belongs to the tokens at these flat positions, (1, N)."""
    return of_tokens_BT.flatten().index_select(0, places_N)[None]
