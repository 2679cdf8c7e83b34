"""Memory and time of a training, estimated from sizes alone. Every figure here is an estimate, not a measurement.

Memory of one device, in bytes, with P parameters, T of them trained, b bytes per number (4 in float32, 2 in 16 bits):

    weights       P b; with method=qlora the linear layers at 4.127 bits (4.5 without double quantisation)
    16-bit copies 2 P where autocast (train.precision=bf16) casts weights of 32 bits, kept for the backward pass
    gradients     T b
    optimiser     m T b, with m numbers of state per weight found by taking one step (AdamW 2)
    activations   r x tokens x layers x a, with r rows of a micro-batch for each document (2 for a pair in one pass),
                  the tokens of a micro-batch, and a = (8 h + 2 k + 4 f) b' for what one layer keeps for the backward
                  pass: h hidden size, k width of the keys, f of the feed-forward layer (2 f instead of 4 f without
                  a gate), b' bytes of the forward pass. Attention scores are not kept (flash or per-document
                  attention). With gradient checkpointing h b' for each layer, and one layer whole.
    logits        3 x 4 x the chunk of logits that harness.train.loss forms at a time

With train.sharding=fsdp, weights, gradients and optimiser are divided by the number of devices.

Time: floating-point operations as in harness.train.cost (6 per parameter and token in the plain case), a third more
with gradient checkpointing, over a sustained rate: on a GPU 40% of its peak, on a CPU 60% of what a product of two
matrices reaches here and now. Evaluation, generation and judging come on top.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.config import Config
from harness.train.cost import ModelSize, flops
from harness.train.loss import _CHUNK_LOGITS
from harness.train.optimizer import check_optimizer
from harness.train.schedule import matched_schedule, total_steps

GPU_SHARE, CPU_SHARE = 0.4, 0.6
# Peak of dense bf16 products in FLOP/s, from the vendors' data sheets.
GPU_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "A10": 125e12, "4090": 165e12}


@dataclass(frozen=True)
class Size:
    """What memory follows from.

    Attributes:
        parameters, trainable: numbers of them, with adapters.
        quantised: of the parameters, those in 4 bits under method=qlora.
        layers, hidden, keys, feed_forward: as in the module's formulas.
        gated: whether the feed-forward layer has a gate.
    """

    parameters: int
    trainable: int
    quantised: int
    layers: int
    hidden: int
    keys: int
    feed_forward: int
    gated: bool


def size_of(model: Any, base: Any) -> Size:
    """Read from a skeleton that is ready to train, and its base model's config."""
    config = base.config.get_text_config()
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    feed_forward = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * config.hidden_size)
    head = base.get_output_embeddings()
    linear = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head and "lora_" not in n]
    return Size(
        parameters=sum(each.numel() for each in model.parameters()),
        trainable=sum(each.numel() for each in model.parameters() if each.requires_grad),
        quantised=sum(each.weight.numel() for each in linear),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        keys=kv_heads * width,
        feed_forward=feed_forward,
        gated=any(name.endswith("gate_proj") for name, _ in base.named_modules()),
    )


def memory(config: Config, size: Size, devices: int = 1) -> dict[str, float]:
    """Bytes on one device by what they hold; see the module's formulas."""
    train, model = config.train, config.model
    wide = torch.finfo(getattr(torch, model.dtype)).bits // 8
    forward = 2 if train.precision == "bf16" else wide
    shards = devices if train.sharding == "fsdp" else 1
    whole, weights = size.parameters, size.parameters * wide
    if train.method == "qlora":
        bits = 4.127 if train.lora.double_quant else 4.5
        weights = int((size.parameters - size.quantised) * wide + size.quantised * bits / 8)
        whole = size.parameters - size.quantised
    parts = {
        "weights": weights / shards,
        "16-bit copies": 2 * whole / shards if forward < wide else 0,
        "gradients": size.trainable * wide / shards,
        "optimiser": check_optimizer(train) * size.trainable * wide / shards,
        "activations": activations(config, size) * forward,
        "logits": 12 * _CHUNK_LOGITS,
    }
    return {name: value for name, value in parts.items() if value}


def activations(config: Config, size: Size) -> int:
    """Numbers kept for the backward pass of one micro-batch."""
    rows = config.noise.cost.forwards if config.train.pair_mode == "concat" and config.noise.method == "noise" else 1
    tokens = rows * max(config.train.micro_batch_tokens, config.dataset.max_length)
    layer = 8 * size.hidden + 2 * size.keys + (4 if size.gated else 2) * size.feed_forward
    if config.model.gradient_checkpointing:
        return tokens * (size.layers * size.hidden + layer)
    return tokens * size.layers * layer


@dataclass(frozen=True)
class Work:
    """Steps of a training, documents of a step, and floating-point operations of it all."""

    steps: int
    documents: int
    operations: float


def work(config: Config, model: Any, examples: int, tokens: float) -> Work:
    """What a training computes.

    Args:
        config: of the run.
        model: ready to train, real or a skeleton.
        examples: in the training set.
        tokens: of one example, on average.
    """
    train, cost = config.train, config.noise.cost
    steps = total_steps(examples, train.batch_size, train.epochs, train.max_steps)
    planned = matched_schedule(examples, train.batch_size, steps, cost.forwards, train.budget)
    documents = min(planned.batch_size, examples)
    each = flops(ModelSize.of(model), cost, round(documents * tokens), round(documents * tokens**2))
    recomputed = 4 / 3 if config.model.gradient_checkpointing else 1.0
    return Work(planned.steps, documents, planned.steps * each * recomputed)


def rate(config: Config) -> tuple[float, str]:
    """Sustained FLOP/s of one device of this machine, and how that was found."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        for key, peak in GPU_PEAKS.items():
            if key in name:
                return GPU_SHARE * peak, f"{name}: {GPU_SHARE:.0%} of {peak / 1e12:.0f} TFLOP/s"
        return GPU_SHARE * GPU_PEAKS["A100"], f"{name}: peak not known here, taken as an A100"
    dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
    measured = _matrix_rate(dtype)
    how = f"{CPU_SHARE:.0%} of {measured / 1e9:.0f} GFLOP/s measured in {str(dtype).removeprefix('torch.')}"
    return CPU_SHARE * measured, f"CPU, {torch.get_num_threads()} threads: {how}"


def _matrix_rate(dtype: torch.dtype, size: int = 1024, seconds: float = 0.2) -> float:
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    left @ right  # the first call sets things up
    started, products = time.monotonic(), 0
    while time.monotonic() < started + seconds:
        left @ right
        products += 1
    return 2 * size**3 * products / (time.monotonic() - started)
