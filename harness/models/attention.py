"""Attention within each packed document, for models that use transformers' attention interface.

B rows, H heads, T tokens of a row, L tokens of one document, E features of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from harness.models.varlen import choose_kernel, varlen_attention

# The name under which transformers finds `segment_attention`; harness/models/varlen.py has its kernels for GPUs.
SEGMENTS = "segments"

_HALF = (torch.bfloat16, torch.float16)
_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Keyword arguments with which a layer asks for a kind of attention not implemented below.
_OTHER_ATTENTION = ("softcap", "s_aux", "position_bias")


class SegmentsMissingError(ValueError):
    """A layer was not told where the documents in its rows end."""


def segment_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segment_lengths: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document.

    The lengths are a keyword argument of the model's forward, so recomputation under gradient checkpointing has them
    too.

    Args:
        module: the calling layer; unused.
        query: (B, H, T, E).
        key: (B, H or a divisor of it, T, E); likewise value.
        attention_mask: None; documents have no padding between them.
        scaling: factor of the scores; None: 1 / sqrt(E).
        dropout: probability of dropping an attention weight.
        sliding_window: each token sees itself and the sliding_window - 1 before it; None: all before it.
        segment_lengths: `Batch.segment_lengths`, one sequence for each row, each with the sum T.

    Returns:
        (B, T, H, E), and None for the weights, which are never formed.

    Raises:
        SegmentsMissingError: no segment_lengths, or a mask in their place.
        ValueError: segment_lengths that do not match, or an unsupported kind of attention.
    """
    del module
    asked = [name for name in _OTHER_ATTENTION if kwargs.get(name) is not None]
    if asked:
        raise ValueError(f"the model asks for attention with {', '.join(asked)}: train it with layout=padded")
    if segment_lengths is None or attention_mask is not None:
        raise SegmentsMissingError(
            "packed attention needs segment_lengths and no attention_mask: inside packed_attention() "
            "call the model through harness.train.loss.hidden_states; for generation leave the context"
        )
    totals = [sum(lengths) for lengths in segment_lengths]
    if totals != [query.shape[2]] * query.shape[0]:
        raise ValueError(
            f"segment_lengths add up to {totals}, queries are (rows, heads, tokens, features) {query.shape}"
        )
    # Under autocast, rotary positions and norms (Qwen3) leave queries and keys in a wider dtype than the values.
    kernel = choose_kernel(query.device, value.dtype, dropout)
    if kernel != "per_document":
        query, key = query.to(value.dtype), key.to(value.dtype)
        documents = tuple(length for lengths in segment_lengths for length in lengths)
        return varlen_attention(kernel, query, key, value, documents, sliding_window, scaling, dropout), None
    options: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": key.shape[1] != query.shape[1]}
    if query.device.type == "cpu" and value.dtype == torch.bfloat16:
        # The backward pass of the CPU's flash attention is half as fast in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            wide = _rows(query.float(), key.float(), value.float(), segment_lengths, sliding_window, options)
        return wide.bfloat16(), None
    query, key = query.to(value.dtype), key.to(value.dtype)
    return _rows(query, key, value, segment_lengths, sliding_window, options), None


AttentionInterface.register(SEGMENTS, segment_attention)  # with no mask function of that name the mask is None


def _rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segment_lengths: Sequence[Sequence[int]],
    sliding_window: int | None,
    options: dict[str, Any],
) -> Tensor:
    """All rows at once if they have the same document lengths (the two halves of a pair), else one by one."""
    if len(set(map(tuple, segment_lengths))) == 1:
        return _segments(query, key, value, segment_lengths[0], sliding_window, options)
    rows = zip(query.split(1), key.split(1), value.split(1), segment_lengths, strict=True)
    return torch.cat([_segments(*row, sliding_window, options) for row in rows])


def _segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    sliding_window: int | None,
    options: dict[str, Any],
) -> Tensor:
    """(B, H, T, E) -> (B, T, H, E)."""
    # split, because the backward of a slice fills a gradient of the whole tensor with zeros.
    split = (tensor.split(list(lengths), dim=2) for tensor in (query, key, value))
    attended = [_causal(q, k, v, sliding_window, options) for q, k, v in zip(*split, strict=True)]
    return torch.cat([piece.transpose(1, 2) for piece in attended], dim=1)


def _causal(query: Tensor, key: Tensor, value: Tensor, sliding_window: int | None, options: dict[str, Any]) -> Tensor:
    length = query.shape[2]
    if sliding_window is None or length <= sliding_window:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, **options)
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, **options)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, every layer uses `segment_attention`; backward passes must be inside, too.

    Args:
        model: a causal language model for which `supports_packing` holds; a PEFT model will do.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(SEGMENTS)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether documents packed by `packed_attention` pass through this model as if each were alone.

    Checked first by structure (decoder only, attention through transformers' interface, positions given by
    position_ids, full or sliding causal layers), then by computing: of two short documents in a row, the second must
    have the same hidden states as alone, whatever the tokens of the first.

    Args:
        model: a causal language model before it is wrapped or sharded; its mode (training or not) is
            restored.
    """
    if not has_known_structure(model):
        return False
    try:
        return _isolates_documents(model)
    except SegmentsMissingError:  # some models do not pass keyword arguments on to their layers
        return False


def has_known_structure(model: PreTrainedModel) -> bool:
    """The first half of `supports_packing`, which needs no weights."""
    config = model.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        not config.is_encoder_decoder
        and bool(getattr(model, "_supports_attention_backend", False))
        and "position_ids" in inspect.signature(model.get_decoder().forward).parameters
        and layer_types <= _LAYER_TYPES
        and getattr(config, "attn_logit_softcapping", None) is None
        and not any("sinks" in name for name, _ in model.named_parameters())
    )


@torch.no_grad()
def _isolates_documents(model: PreTrainedModel) -> bool:
    decoder = model.get_decoder()
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    # Two first documents of one length, so that a swap changes nothing but tokens.
    first_a, first_b, second = (
        (step * torch.arange(1, length + 1) % len(embedding)).to(embedding.device)
        for step, length in ((7, 5), (11, 5), (3, 6))
    )

    def second_after(first: Tensor) -> Tensor:
        lengths = (len(first), len(second))
        positions = torch.cat([torch.arange(length, device=embedding.device) for length in lengths])
        row = {"input_ids": torch.cat((first, second))[None], "position_ids": positions[None]}
        hidden_BTD = decoder(**row, segment_lengths=(lengths,), use_cache=False).last_hidden_state
        return hidden_BTD[0, len(first) :].float()

    was_training = model.training
    model.eval()
    try:
        alone = decoder(input_ids=second[None], use_cache=False).last_hidden_state[0].float()
        with packed_attention(model):
            after_a, after_b = second_after(first_a), second_after(first_b)
    finally:
        model.train(was_training)
    # Bitwise equal in most models; experts regroup their tokens and round differently.
    moved, off = ((after_a - other).norm() / alone.norm() for other in (after_b, alone))
    # A 4-bit base computes in bfloat16 with a float32 embedding.
    quantised = any(type(each).__name__ == "Params4bit" for each in model.parameters())
    computes_in_half = embedding.dtype in _HALF or quantised
    rounding = 5e-2 if computes_in_half else 1e-3
    return bool(moved <= 1e-5) and bool(off <= rounding)
