"""Cross-entropy of the response tokens; logits are computed only at targets, a chunk at a time.

B rows, T tokens of a row, D hidden size, V vocabulary, N positions that have a target.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel

from harness.data.batching import IGNORE_INDEX, Batch
from harness.models.layers.last import PLACES, at_places, takes_places
from harness.models.onednn import linear, product
from harness.noise import input_embedding

# Logits held at one time: 64 MB in float32 on a CPU, about the size of its caches; 256 MB on a GPU, because each chunk
# adds a whole float32 (V, D) to the head's gradient, and with 64 MB and V = 128k a chunk would be 131 rows.
_CHUNK_LOGITS = {"cpu": 2**24, "cuda": 2**26}
_SLICE = 4096


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to the output of its head: multiply by `scale`, then cap * tanh(logits / cap).

    Attributes:
        scale: of Granite (1 / logits_scaling), Cohere (logit_scale), Falcon-H1 (lm_head_multiplier).
        cap: of Gemma 2 and nanochat (final_logit_softcapping); None: no cap.
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: PretrainedConfig) -> LogitTransform:
        """Read it from a model's config."""
        scale = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def backward(self, gradient: Tensor, transformed: Tensor) -> Tensor:
        """Turn the gradient after the transform into the one before it; overwrites `gradient`."""
        if self.cap is not None:
            gradient.mul_(1 - (transformed / self.cap).square())
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


class ResponseLoss(nn.Module):
    """A causal language model as a function from a batch to its loss, which the loop prepares and calls.

    Forward passes go through this module, so data parallelism and sharding wrap it rather than the inner model.

    Args:
        model: a causal language model, PEFT or plain; not yet wrapped or sharded or in packed_attention.
        checked: the model whose logits are compared, where this one has no weights yet (`harness.models.shards.bare`).

    Raises:
        ValueError: the model's logits are not those computed here.
    """

    def __init__(self, model: PreTrainedModel, checked: PreTrainedModel | None = None) -> None:
        super().__init__()
        self.model = model
        self.transform = LogitTransform.of(model.config.get_text_config())
        # The layers to shard one by one; Accelerate looks for this attribute on the module that it wraps.
        self._no_split_modules = getattr(model, "_no_split_modules", None)
        self._needs_input_ids = _check_logits(model if checked is None else checked, self.transform)

    def forward(
        self,
        batch: Batch,
        perturb: Callable[[Tensor], Tensor] | None = None,
        per_document: bool = False,
        logits: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy and number of targets: of the batch, or (n,) each for its n documents.

        With `logits`: the (N, V) logits of the positions that have a target, and the (N,) targets.

        Args:
            perturb: function applied to the (B, T, D) embeddings before the first layer; None: no change.

        Raises:
            ValueError: `perturb` with a model that reads token ids in addition to their embeddings.
        """
        if perturb is not None and self._needs_input_ids:
            raise ValueError(self._needs_input_ids)
        hidden_BTD, targets_BT, ids_BT, places_N = self._hidden(batch, perturb)
        head = self.model.get_output_embeddings()
        if logits:
            return response_logits(hidden_BTD, targets_BT, head, self.transform, places_N)
        if not per_document:
            return response_loss(hidden_BTD, targets_BT, head, self.transform, places_N)
        return document_losses(hidden_BTD, targets_BT, ids_BT, len(batch.documents), head, self.transform, places_N)

    def _hidden(
        self, batch: Batch, perturb: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden states, targets, document ids and places of targets; only targets where the model computes no more."""
        places_N = batch.target_places
        if batch.layout == "padded" or not takes_places(self.model):
            return hidden_states(self.model, batch, perturb), batch.targets, batch.document_ids, places_N
        hidden_1ND = hidden_states(self.model, batch, perturb, places_N)
        all_N = torch.arange(len(places_N), device=places_N.device)
        return hidden_1ND, at_places(batch.targets, places_N), at_places(batch.document_ids, places_N), all_N


def hidden_states(
    model: PreTrainedModel,
    batch: Batch,
    perturb: Callable[[Tensor], Tensor] | None = None,
    places_N: Tensor | None = None,
) -> Tensor:
    """Last hidden states before the head, (B, T, D).

    Args:
        batch: packed ones only inside `harness.models.attention.packed_attention`.
        perturb: see `ResponseLoss.forward`; applied to the output of the input embedding, including any scaling.
        places_N: only these flat positions, (1, N, D); inside `harness.models.layers.last.last_layer_at_targets`.
    """
    inputs: dict[str, Any] = {"use_cache": False}
    if perturb is None:
        inputs["input_ids"] = batch.input_ids
    else:
        inputs["inputs_embeds"] = perturb(input_embedding(model)(batch.input_ids))
    if batch.layout == "packed":
        inputs |= {"position_ids": batch.position_ids, "segment_lengths": batch.segments}
    else:
        # No position_ids: padded batches are for models that may not accept them, and padding is on the right.
        inputs |= {"attention_mask": batch.attention_mask}
    if places_N is not None:
        inputs[PLACES] = places_N
    hidden_BTD: Tensor = model.get_decoder()(**inputs).last_hidden_state
    return hidden_BTD


def response_loss(
    hidden_BTD: Tensor,
    targets_BT: Tensor,
    lm_head: nn.Module,
    transform: LogitTransform | None = None,
    places_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies over the targets, in float32 or wider, and their number.

    A plain linear head has its gradient computed together with the loss, so nothing is computed twice and no
    more than a chunk of logits is ever kept; it can be differentiated once. Other heads (LoRA on the head)
    are recomputed in the backward pass.

    Args:
        targets_BT: `Batch.targets`: what to predict at each position, -100 for nothing.
        places_N: `Batch.target_places`; None: computed here, which synchronises with a GPU.
    """
    transform = transform or LogitTransform()
    hidden_ND, targets_N, _ = _where_targets(hidden_BTD, targets_BT, places_N)
    if type(lm_head) is nn.Linear:
        loss = _SummedCrossEntropy.apply(hidden_ND, lm_head.weight, lm_head.bias, targets_N, transform)
    else:
        loss = _token_losses(hidden_ND, targets_N, lm_head, transform).sum()
    return loss, torch.full((), len(targets_N), device=targets_N.device)


def response_logits(
    hidden_BTD: Tensor,
    targets_BT: Tensor,
    lm_head: nn.Module,
    transform: LogitTransform | None = None,
    places_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits of the N positions that have a target, (N, V) in float32 or wider, and the (N,) targets.

    For losses that compare predictions. All N V of them exist at once; for plain cross-entropy use `response_loss`.
    """
    hidden_ND, targets_N, _ = _where_targets(hidden_BTD, targets_BT, places_N)
    return (transform or LogitTransform())(_at_least_float32(lm_head(hidden_ND))), targets_N


def document_losses(
    hidden_BTD: Tensor,
    targets_BT: Tensor,
    document_ids_BT: Tensor,
    documents: int,
    lm_head: nn.Module,
    transform: LogitTransform | None = None,
    places_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`response_loss` of each document: (documents,) sums and (documents,) numbers of targets."""
    hidden_ND, targets_N, where_N = _where_targets(hidden_BTD, targets_BT, places_N)
    losses_N = _token_losses(hidden_ND, targets_N, lm_head, transform or LogitTransform())
    ids_N = document_ids_BT.flatten()[where_N]
    # Not bincount, which makes the host wait for the largest number.
    counts = ids_N.new_zeros(documents).index_add(0, ids_N, torch.ones_like(ids_N))
    return losses_N.new_zeros(documents).index_add(0, ids_N, losses_N), counts


def _where_targets(hidden_BTD: Tensor, targets_BT: Tensor, places_N: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, targets and flat positions of the N targets."""
    targets = targets_BT.flatten()
    where_N = (targets != IGNORE_INDEX).nonzero().squeeze(1) if places_N is None else places_N
    return hidden_BTD.flatten(0, 1).index_select(0, where_N), targets.index_select(0, where_N), where_N


def _token_losses(hidden_ND: Tensor, targets_N: Tensor, lm_head: nn.Module, transform: LogitTransform) -> Tensor:
    """(N,) cross-entropies; each chunk's logits are recomputed in the backward pass."""

    def losses(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = transform(_at_least_float32(lm_head(hidden)))
        return functional.cross_entropy(logits, targets, reduction="none")

    rows = _rows_at_a_time(lm_head.weight)  # type: ignore[arg-type]
    chunks = zip(hidden_ND.split(rows), targets_N.split(rows), strict=True)
    return torch.cat([checkpoint(losses, *chunk, use_reentrant=False) for chunk in chunks])


class _SummedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a linear head, with gradients computed while the logits exist."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        transform: LogitTransform,
    ) -> Tensor:
        inputs = (hidden_ND, weight_VD, bias_V)
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
        wide = torch.promote_types(dtype, torch.float32)
        ctx.dtypes = [None if each is None else each.dtype for each in inputs]
        ctx.gradients = [
            torch.zeros_like(each, dtype=wide) if each is not None and needed else None
            for each, needed in zip(inputs, ctx.needs_input_grad, strict=False)
        ]
        loss = torch.zeros((), dtype=wide, device=hidden_ND.device)
        with torch.autocast(device, enabled=False):
            hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
            bias_V = None if bias_V is None else bias_V.to(dtype)
            rows = _rows_at_a_time(weight_VD)
            for start in range(0, len(targets_N), rows):
                hidden, targets = hidden_ND[start : start + rows], targets_N[start : start + rows, None]
                logits = transform(linear(hidden, weight_VD, bias_V).to(wide))
                log_probabilities = functional.log_softmax(logits, dim=1)
                loss -= log_probabilities.gather(1, targets).sum()
                if not any(ctx.needs_input_grad):
                    continue
                # d loss / d logits is the probability, minus one at the target.
                gradient = log_probabilities.exp_()
                gradient.scatter_add_(1, targets, gradient.new_full((), -1.0).expand(targets.shape))
                _accumulate(ctx.gradients, transform.backward(gradient, logits), hidden, weight_VD, start)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("response_loss is differentiable once; document_losses more often")
        scaled = [
            None if part is None else part.mul_(gradient).to(dtype)
            for part, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = None
        return (*scaled, None, None)


def _accumulate(
    gradients: list[Tensor | None], gradient_NV: Tensor, hidden_ND: Tensor, weight_VD: Tensor, start: int
) -> None:
    """Add one chunk's contribution to the gradients of hidden states, weight and bias."""
    of_hidden, of_weight, of_bias = gradients
    if of_bias is not None:
        of_bias += gradient_NV.sum(0)
    gradient_NV = gradient_NV.to(weight_VD.dtype)
    if of_hidden is not None:
        of_hidden[start : start + len(hidden_ND)] = product(gradient_NV, weight_VD.T)
    if of_weight is not None:
        # On a CPU, one slice of the vocabulary at a time: its product stays in the cache until it is added.
        size = _SLICE if of_weight.device.type == "cpu" else len(of_weight)
        for part, gradient in zip(of_weight.split(size), gradient_NV.split(size, dim=1), strict=True):
            part += product(gradient.T, hidden_ND.T)


def chunk_of_logits(device_type: str) -> int:
    """Logits held at one time on a device of this type."""
    return _CHUNK_LOGITS.get(device_type, _CHUNK_LOGITS["cuda"])


def _rows_at_a_time(weight_VD: Tensor) -> int:
    return max(1, chunk_of_logits(weight_VD.device.type) // len(weight_VD))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@torch.no_grad()
def _check_logits(model: PreTrainedModel, transform: LogitTransform) -> str | None:
    """Refuse a model whose logits are computed differently; return why its embeddings cannot be perturbed, or None.

    The result holds whatever later wraps or shards the model.
    """
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    input_ids = (torch.arange(1, 5, device=embedding.device) % len(embedding))[None]
    rounding = 5e-2 if embedding.dtype in (torch.bfloat16, torch.float16) else 1e-3
    was_training = model.training
    model.eval()
    try:
        own = model(input_ids=input_ids, use_cache=False).logits.float()
        hidden_BTD = model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        from_embeddings = _takes_embeddings(model, input_ids, hidden_BTD, rounding)
    finally:
        model.train(was_training)
    ours = transform(model.get_output_embeddings()(hidden_BTD).float())
    if own.shape != ours.shape or not (own - ours).norm() <= rounding * own.norm():
        raise ValueError(
            f"model {type(model).__name__}: its logits are not those of its head on the last hidden states, "
            f"scaled and capped as its config says ({transform}), so its loss is not known here"
        )
    if from_embeddings:
        return None
    return (
        f"model {type(model).__name__}: it also reads the token ids, not just their embeddings (per-layer "
        "embeddings, for example), so that noise cannot be put between the two; train it with noise=none"
    )


def _takes_embeddings(model: PreTrainedModel, input_ids: Tensor, hidden_BTD: Tensor, rounding: float) -> bool:
    """Whether the decoder gives the same for embeddings as for token ids, and looks the ids up nowhere else."""
    decoder, embedding = model.get_decoder(), input_embedding(model)
    if "inputs_embeds" not in inspect.signature(decoder.forward).parameters:
        return False
    looked_up: list[nn.Module] = []
    # In an untrained model a second table may still have no effect, so look-ups count, too.
    tables = {each for each in decoder.modules() if isinstance(each, nn.Embedding)} - set(embedding.modules())
    handles = [each.register_forward_hook(lambda table, _args, _out: looked_up.append(table)) for each in tables]
    try:
        decoder(input_ids=input_ids, use_cache=False)
        by_ids = set(looked_up)
        looked_up.clear()
        embedded_BTD = decoder(inputs_embeds=embedding(input_ids), use_cache=False).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    close = (hidden_BTD - embedded_BTD).norm() <= rounding * hidden_BTD.norm()
    return bool(close) and by_ids == set(looked_up)
