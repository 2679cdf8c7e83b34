"""Memory of a training, estimated from sizes alone. Every figure here is an estimate, not a measurement.

Bytes of one device, with P parameters, T of them trained, N devices, b bytes per number of the weights (4 in float32, 2
in 16 bits), V vocabulary, h hidden size, R parameters outside of the layers (embedding, norm, head), l parameters of a
layer:

    weights       P b; with method=qlora the linear layers at 4.127 bits (4.5 without double quantisation)
    16-bit copies 2 P without the embedding where autocast (train.precision=bf16) casts weights of 32 bits, kept for the
                  backward pass; under fsdp of the head alone, 2 V h
    gradients     T b
    optimiser     m T b, with m numbers of state per weight found by taking one step (AdamW 2)
    gathered      fsdp: R b whole, and R b once more for their gradients; of two layers (at work and next) the weights,
                  of one the gradients as they are and in the 4 bytes of the reduction: with g bytes of the forward
                  pass (3 g + 4) l
    activations   `activations`: what autograd keeps for the backward pass of one micro-batch
    logits        3 x 4 x the chunk of logits that harness.train.loss forms at a time, and the last hidden states with
                  their gradients, (4 + g) h a token

With train.sharding=fsdp, weights, gradients and optimiser are divided by N; with train.cpu_offload they are in main
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.config import Config
from harness.train.loss import chunk_of_logits
from harness.train.optimizer import check_optimizer
from harness.train.parallel import uses_bfloat16


@dataclass(frozen=True)
class Size:
    """The sizes that determine memory.

    Attributes:
        parameters, trainable: their numbers, including adapters.
        quantised: number of parameters in 4 bits under method=qlora.
        outside: number of parameters outside the layers: embedding, last norm, head.
        table: size of the head, vocabulary x hidden.
        layers, hidden, queries, keys, feed_forward: number of layers, and widths.
        heads: of the queries.
        gated: whether the feed-forward layer has a gate.
        relu: whether it has ReLU and no gate; autograd recovers ReLU's gradient from its result.
        parallel: whether attention and feed-forward layer start from one state, and queries, keys and values are one
            product (GPT-NeoX).
    """

    parameters: int
    trainable: int
    quantised: int
    outside: int
    table: int
    layers: int
    hidden: int
    queries: int
    keys: int
    feed_forward: int
    heads: int
    gated: bool
    relu: bool
    parallel: bool

    @property
    def layer(self) -> float:
        """Parameters of one layer."""
        return (self.parameters - self.outside) / self.layers


def size_of(model: Any, base: Any) -> Size:
    """Read the sizes from a meta model that is ready to train, and its base model's config."""
    config = base.config.get_text_config()
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    feed_forward = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * config.hidden_size)
    head = base.get_output_embeddings()
    linear = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head and "lora_" not in n]
    parameters = sum(each.numel() for each in model.parameters())
    names = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    inside = sum(each.numel() for module in layers for each in module.parameters())
    return Size(
        parameters=parameters,
        trainable=sum(each.numel() for each in model.parameters() if each.requires_grad),
        quantised=sum(each.weight.numel() for each in linear),
        outside=parameters - inside if inside else head.weight.numel(),
        table=head.weight.numel(),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        queries=heads * width,
        keys=kv_heads * width,
        feed_forward=feed_forward,
        heads=heads,
        gated=any(name.endswith("gate_proj") for name, _ in base.named_modules()),
        relu=getattr(config, "activation_function", None) == "relu",
        parallel=bool(getattr(config, "use_parallel_residual", False)),
    )


def bytes_of_weights(config: Config) -> int:
    """Bytes of one weight that is not quantised."""
    return torch.finfo(getattr(torch, config.model.dtype)).bits // 8


def state(config: Config, size: Size) -> dict[str, float]:
    """Bytes of weights, gradients and optimiser on all devices together, one copy of each."""
    train, wide = config.train, bytes_of_weights(config)
    weights = size.parameters * wide
    if train.method == "qlora":
        bits = 4.127 if train.lora.double_quant else 4.5
        weights = int((size.parameters - size.quantised) * wide + size.quantised * bits / 8)
    trained = size.trainable * wide
    return {"weights": weights, "gradients": trained, "optimiser": check_optimizer(train) * trained}


def memory(config: Config, size: Size, devices: int = 1) -> dict[str, float]:
    """Bytes on one device by what they hold; see the module's formulas."""
    train, wide = config.train, bytes_of_weights(config)
    forward = 2 if uses_bfloat16(train) else wide
    sharded = train.sharding == "fsdp"
    cast = size.parameters - (size.quantised if train.method == "qlora" else 0) - (size.outside - size.table)
    parts: dict[str, float] = {} if train.cpu_offload else state(config, size)
    if sharded:
        parts = {name: value / devices for name, value in parts.items()}
        parts["gathered"] = 2 * size.outside * wide + (3 * forward + 4) * size.layer
    if forward < wide:
        parts["16-bit copies"] = 2 * (size.table if sharded else cast)
    parts["activations"] = activations(config, size)
    chunk = chunk_of_logits("cuda" if torch.cuda.is_available() else "cpu")
    parts["logits"] = 12 * chunk + (4 + forward) * size.hidden * tokens_of_a_pass(config)
    return {name: value for name, value in parts.items() if value}


def tokens_of_a_pass(config: Config) -> int:
    """Tokens of a micro-batch, counting both halves of a pair."""
    rows = config.noise.cost.forwards if config.train.pair_mode == "concat" and config.noise.method == "noise" else 1
    return rows * max(config.train.micro_batch_tokens, config.dataset.max_length)


def activations(config: Config, size: Size) -> int:
    """Bytes kept for the backward pass of one micro-batch.

    A token of a layer, by what autograd keeps of transformers' Llama, h hidden size, q and k widths of queries and
    keys, f of the feed-forward layer, H heads (attention without scores: flash, or document by document):

        autocast over float32 26 h + 4 q + 4 k + 8 f: two norms of 8 h (input and normalised form; the
                              residual stream being float32), five inputs of products cast to 16 bits, 2 h each,
                              queries, keys, values and what attention gives, 2 bytes a number, and of the
                              feed-forward layer gate, its activation, the other branch and their product
        one precision of b    24 h or, in 16 bits, 16 h + b (2 q + 2 k + 4 f): inputs are shared, norms compute in
                              float32

    With gradient checkpointing each layer keeps its input, and one layer at a time the rest; with the selective kind
    also what products and attention give, b (2 q + 2 k + 2 h + f) + 4 H, or 2 f where there is a gate. Outside of the
    layers there is the last norm. Decoders with LayerNorm and no gate: 20 h instead of 26 h (12 h: GPT-NeoX), and of
    the feed-forward layer its activation and, except for ReLU, what that was taken of.
    """
    tokens, wide = tokens_of_a_pass(config), bytes_of_weights(config)
    narrow = 2 if uses_bfloat16(config.train) else wide
    kept = 4 if size.gated else 1 if size.relu else 2
    mixed = 26 if size.gated else 12 if size.parallel else 20
    inputs = mixed if narrow < wide else 6 * wide if wide == 4 else 16
    widths = 2 * size.queries + 2 * size.keys + kept * size.feed_forward
    # float32 logarithms of attention's sums, a number a head.
    layer = inputs * size.hidden + narrow * widths + 4 * size.heads
    outside = (3 if size.gated else 1) * wide * size.hidden
    if config.model.gradient_checkpointing:
        kept_of_layer = wide * size.hidden
        if config.model.gradient_checkpointing == "selective":
            branches = 2 if size.gated else 1
            products = 2 * size.queries + 2 * size.keys + 2 * size.hidden + branches * size.feed_forward
            kept_of_layer += narrow * products + 4 * size.heads
        return tokens * (size.layers * kept_of_layer + layer + outside)
    return tokens * (size.layers * layer + outside)


def loading(config: Config, size: Size, ranks: int) -> float:
    """Main memory of a node of `ranks` while the model is loaded.

    A whole copy in each; of shards one copy after another, or, where each process reads its rows
    (`harness.models.shards`), in each the layer in float32 on which the model is checked, and whole adapters.
    """
    train = config.train
    offloaded = sum(state(config, size).values()) / max(train.nodes, 1) if train.cpu_offload else 0
    if train.sharding == "fsdp" and config.model.architecture is None:
        adapters = size.trainable if train.method == "lora" else 0
        return ranks * 4 * (size.outside + size.layer + adapters) + offloaded
    copies = 1 if train.sharding == "fsdp" else ranks
    return size.parameters * bytes_of_weights(config) * copies + offloaded


def checkpoint(config: Config, size: Size) -> float:
    """Bytes of one checkpoint: trained weights and the optimiser's state."""
    parts = state(config, size)
    return parts["gradients"] + parts["optimiser"]
