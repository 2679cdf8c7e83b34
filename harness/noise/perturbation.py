"""The noise itself: embeddings in, noised embeddings out, randomness an argument.

B rows, L token positions, D hidden size; H halves of a pair (1 without).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.noise.definition import Noise
from harness.noise.distributions import draw, draw_blocks, matching_factor
from harness.noise.statistics import mean_norms
from harness.noise.tokens import Tokens

Randomness = torch.Generator | Sequence[torch.Generator]


def perturb(
    embeddings: Tensor,
    attention_mask: Tensor,
    noise: Noise,
    generator: Randomness,
    document_ids: Tensor | None = None,
    labels: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    progress: float | None = None,
) -> Tensor:
    """Embeddings with noise: X + alpha / sqrt(L d) * u for each document (see `Noise`).

    With scale="relative" times the mean norm of the document's token embeddings, through which no gradient flows.

    Args:
        embeddings: (B, L, D), floating point; gradients flow through to it.
        attention_mask: (B, L), 1 at real tokens, 0 at padding.
        noise: what to draw.
        generator: one generator draws the whole (B, L, D) tensor at once and so repeats the official training
            code and transformers' hook bit for bit in float32 (for bfloat16 and float16 see below). A
            sequence holds one for each document, in order of appearance; each draws the (tokens, D) block of
            its own document, so that a document's noise is the same wherever it stands: packed, padded, in any
            order.
        document_ids: (B, L), equal integers in a row are one document; None: each row is one.
        labels: (B, L), -100 outside the response; needed by where="prompt" and "response".
        special_tokens_mask: (B, L), 1 at special tokens; needed by special_tokens=False.
        progress: fraction of training done; needed by any schedule but constant.

    Returns:
        (B, L, D), or (2B, L, D) for a pair: rows 0..B-1 have X + e, rows B..2B-1 have X - e or the second
        draw.

    Noise and scale are computed in float32 (float64 for float64 embeddings) and rounded to the embeddings'
    type at the end: L * D overflows float16 beyond 65504 and the noise would vanish. This deviates from
    transformers and the official code, which draw in the embeddings' type.

    Raises:
        ValueError: shapes that do not match, or a missing tensor that the noise needs.
    """
    if embeddings.ndim != 3 or not embeddings.is_floating_point():
        raise ValueError(
            f"embeddings of shape {tuple(embeddings.shape)} and type {embeddings.dtype}: "
            "must be (rows, tokens, hidden size), floating point"
        )
    if embeddings.shape[:2] != attention_mask.shape:
        raise ValueError(f"attention_mask of shape {tuple(attention_mask.shape)}: embeddings {tuple(embeddings.shape)}")
    tokens = Tokens(attention_mask, document_ids, labels, special_tokens_mask)
    halves = range(noise.halves)
    noised_HBLD = apply_noise(embeddings[None], tokens, noise, generator, noise.strength(progress), halves)
    return noised_HBLD.flatten(0, 1)


def apply_noise(
    embeddings_HBLD: Tensor,
    tokens: Tokens,
    noise: Noise,
    generator: Randomness,
    strength: float,
    halves: Sequence[int],
) -> Tensor:
    """Add noise to the chosen halves of a pair: (H or 1, B, L, D) -> (H, B, L, D), H = len(halves).

    Args:
        strength: alpha (or rate) after the schedule; at 0 nothing is drawn and the embeddings come back
            unchanged.
        halves: (0, 1) for both in one pass, (0,) or (1,) for one of them from the same generator state.
    """
    if strength == 0:
        return embeddings_HBLD.expand(len(halves), -1, -1, -1)
    shape, dtype = embeddings_HBLD.shape[1:], embeddings_HBLD.dtype
    unit_BL = _embedding_norms(embeddings_HBLD[0], tokens) if noise.scale == "relative" else None

    def one_draw() -> Tensor:
        work_type = torch.promote_types(dtype, torch.float32)
        return _draw(tokens, noise, generator, strength, (*shape,), work_type, unit_BL).to(embeddings_HBLD.device)

    noise_HBLD = _pair(noise.pair, halves, one_draw)
    if noise.distribution == "dropout":
        return embeddings_HBLD * noise_HBLD.add_(1).to(dtype)
    return noise_HBLD.to(dtype).add_(embeddings_HBLD)


def apply_to_halves(
    embeddings_BLD: Tensor,
    tokens: Tokens,
    noise: Noise,
    generators: Sequence[torch.Generator],
    strength: float,
    half_BL: Tensor,
) -> Tensor:
    """Add noise to a batch that already holds both halves of a pair: (B, L, D) -> (B, L, D).

    Args:
        half_BL: 0 at tokens of X + e, 1 at those of X - e or the second draw. The copies of a document have equal keys.
    """
    if strength == 0:
        return embeddings_BLD
    dtype, shape = embeddings_BLD.dtype, embeddings_BLD.shape
    second_BL1 = (half_BL == 1).cpu()[..., None]
    unit_BL = _embedding_norms(embeddings_BLD, tokens) if noise.scale == "relative" else None

    def one_draw() -> Tensor:
        work_type = torch.promote_types(dtype, torch.float32)
        return _draw(tokens, noise, generators, strength, (*shape,), work_type, unit_BL)

    first_BLD = one_draw()
    second_BLD = -first_BLD if noise.pair == "antithetic" else one_draw()
    noise_BLD = torch.where(second_BL1.to(first_BLD.device), second_BLD, first_BLD).to(embeddings_BLD.device)
    if noise.distribution == "dropout":
        return embeddings_BLD * noise_BLD.add_(1).to(dtype)
    return noise_BLD.to(dtype).add_(embeddings_BLD)


def _pair(pair: str, halves: Sequence[int], one_draw: Callable[[], Tensor]) -> Tensor:
    """The noise of the halves asked for, (H, B, L, D)."""
    first_BLD = one_draw()
    if pair == "none":
        return first_BLD[None]
    if pair == "antithetic":
        return torch.stack([first_BLD if half == 0 else -first_BLD for half in halves])
    draws = (first_BLD, one_draw())
    return torch.stack([draws[half] for half in halves])


def _draw(
    tokens: Tokens,
    noise: Noise,
    generator: Randomness,
    strength: float,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    unit_BL: Tensor | None = None,
) -> Tensor:
    """One draw of e, (B, L, D): zero where there is to be no noise.

    Args:
        unit_BL: factor of the scale at each token; None: 1.
    """
    scale = _scale(tokens, noise, strength, shape[2], dtype)
    noised_BL = _noised(tokens, noise)
    if unit_BL is not None:
        scale = scale.to(unit_BL.device) * unit_BL.to(dtype)
        noised_BL = noised_BL.to(unit_BL.device)
    # One scale for all tokens is drawn at that width: a pass less, and the arithmetic of transformers to the
    # bit. Different scales multiply a draw of width 1: the arithmetic of the official code.
    width = scale.item() if scale.ndim == 0 else 1.0
    if isinstance(generator, torch.Generator):
        noise_BLD = draw(noise.distribution, shape, width, generator, dtype)
    else:
        noise_BLD = _draw_documents(tokens, noise, generator, width, shape, dtype)
    if scale.ndim == 0 and noised_BL.all():
        return noise_BLD
    factor_BL = noised_BL.to(dtype) if scale.ndim == 0 else scale * noised_BL
    return noise_BLD.mul_(factor_BL.to(noise_BLD.device, non_blocking=True)[..., None])


def _draw_documents(
    tokens: Tokens,
    noise: Noise,
    generators: Sequence[torch.Generator],
    width: float,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
) -> Tensor:
    """Draw each document's block from its own generator and put it in place."""
    positions = tokens.positions(with_padding=noise.length == "padded")
    if len(generators) != len(positions):
        raise ValueError(f"{len(generators)} generators for {len(positions)} documents: give one per document")
    noise_BLD = torch.zeros(shape, dtype=dtype, device=generators[0].device if generators else "cpu")
    if generators:
        rows = [len(where) for where in positions]
        blocks = draw_blocks(noise.distribution, rows, shape[2], width, generators, dtype)
        places = torch.cat(positions).to(noise_BLD.device, non_blocking=True)
        noise_BLD.view(-1, shape[2]).index_copy_(0, places, blocks)
    return noise_BLD


def _scale(tokens: Tokens, noise: Noise, strength: float, hidden_size: int, dtype: torch.dtype) -> Tensor:
    """Width of the draw: (B, L) by document or row, or one number for the whole batch."""
    if noise.distribution == "dropout":
        return torch.tensor(strength, dtype=dtype)
    if noise.length == "padded":
        length = torch.tensor(tokens.real_BL.shape[1])
    elif noise.length == "row":
        length = tokens.real_BL.sum(1, keepdim=True).expand_as(tokens.real_BL)
    else:
        # Padding is numbered -1 and looks up another document's length: it is masked out afterwards.
        length = tokens.lengths[tokens.document_BL] if len(tokens.lengths) else torch.ones_like(tokens.document_BL)
    size = length.clamp(min=1).to(dtype) * hidden_size
    scale: Tensor = strength / torch.sqrt(size)
    return scale if noise.scale == "raw" else scale * matching_factor(noise.distribution)


def _embedding_norms(embeddings_BLD: Tensor, tokens: Tokens) -> Tensor:
    """(B, L): the mean norm of its document's token embeddings at each token; padding has its row's last document's."""
    found = mean_norms(embeddings_BLD, tokens)
    found = torch.cat([found, found.new_zeros(1)])  # for rows without any document
    document_BL = tokens.document_BL.to(found.device)
    last_BL = document_BL.amax(dim=1, keepdim=True).expand_as(document_BL)
    return found[torch.where(document_BL < 0, last_BL, document_BL)]


def _noised(tokens: Tokens, noise: Noise) -> Tensor:
    """Which tokens get noise, (B, L) bool."""
    noised_BL = torch.ones_like(tokens.real_BL) if noise.length == "padded" else tokens.real_BL
    if noise.where != "all":
        if tokens.prompt_BL is None:
            raise ValueError(f"where={noise.where!r}: needs labels, which were not given")
        noised_BL = tokens.real_BL & (tokens.prompt_BL == (noise.where == "prompt"))
    if not noise.special_tokens:
        if tokens.special_BL is None:
            raise ValueError("special_tokens=False: needs special_tokens_mask, which was not given")
        noised_BL = noised_BL & ~tokens.special_BL
    return noised_BL
