"""Estimated time of training and of answering: operations and bytes over what devices sustain.

Floating-point operations as in harness.train.cost (6 per parameter and token in the plain case), a third more with
gradient checkpointing, over a sustained rate: on a GPU 40% of its peak in the precision of its products, on a CPU 60%
of what a matrix product reaches here and now. Decoding reads all weights once per step, for all rows decoded
together. Loading and checkpoints are taken at 1 GB/s, our assumption for a shared file system.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from harness.config import Config
from harness.train.cost import ModelSize, flops
from harness.train.parallel import uses_bfloat16
from harness.train.schedule import matched_schedule, total_steps

GPU_SHARE, CPU_SHARE = 0.4, 0.6
DISK = 1e9  # bytes a second
ANSWER_SHARE = 0.5  # fraction of a device's memory bandwidth reached in decoding


@dataclass(frozen=True)
class Device:
    """Peak rates of dense products (FLOP/s) by precision and of memory (bytes/s), from the vendors' data sheets."""

    bf16: float
    tf32: float
    fp32: float
    memory: float


# The first whose name is contained in torch's: L40S before L40.
GPUS = {
    "B200": Device(2250e12, 1125e12, 75e12, 8.0e12),
    "H200": Device(989e12, 495e12, 67e12, 4.8e12),
    "H100": Device(989e12, 495e12, 67e12, 3.35e12),
    "A100": Device(312e12, 156e12, 19.5e12, 2.0e12),
    "L40S": Device(362e12, 183e12, 91.6e12, 0.86e12),
    "L40": Device(181e12, 90.5e12, 90.5e12, 0.86e12),
    "A10": Device(125e12, 62.5e12, 31.2e12, 0.6e12),
    "4090": Device(165e12, 82.6e12, 82.6e12, 1.0e12),
}


@dataclass(frozen=True)
class Work:
    """Steps of a training, documents per step, and floating-point operations in total."""

    steps: int
    documents: int
    operations: float


def work(config: Config, model: Any, examples: int, tokens: float) -> Work:
    """What a training computes.

    Args:
        config: settings of the run.
        model: ready to train, real or on the meta device.
        examples: number in the training set.
        tokens: mean number per example.
    """
    train, cost = config.train, config.noise.cost
    steps = total_steps(examples, train.batch_size, train.epochs, train.max_steps)
    planned = matched_schedule(examples, train.batch_size, steps, cost.forwards, train.budget)
    documents = min(planned.batch_size, examples)
    each = flops(ModelSize.of(model), cost, round(documents * tokens), round(documents * tokens**2))
    recomputed = 4 / 3 if config.model.gradient_checkpointing is True else 1.0
    return Work(planned.steps, documents, planned.steps * each * recomputed)


def known_gpu(name: str) -> tuple[str, Device]:
    """The entry for a GPU by torch's name for it; the A100's if there is none."""
    found = next((key for key in GPUS if key in name), None)
    return (found, GPUS[found]) if found else ("peak not known here, taken as an A100", GPUS["A100"])


def precision(config: Config) -> str:
    """The precision of this training's matrix products on a GPU: "bf16", "tf32" or "fp32"."""
    if uses_bfloat16(config.train) or config.model.dtype != "float32":
        return "bf16"
    allowed = getattr(config.train, "tf32", False) or torch.get_float32_matmul_precision() != "highest"
    return "tf32" if allowed else "fp32"


def rate_of(device: Device, kind: str) -> float:
    """Sustained FLOP/s."""
    peak: float = getattr(device, kind)
    return GPU_SHARE * peak


def rate(config: Config) -> tuple[float, str]:
    """Sustained FLOP/s of one device of this machine, and where the number comes from."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        (key, device), kind = known_gpu(name), precision(config)
        told = "" if key in GPUS else f" ({key})"
        return rate_of(
            device, kind
        ), f"{name}{told}: {GPU_SHARE:.0%} of {getattr(device, kind) / 1e12:.0f} TFLOP/s in {kind}"
    dtype = torch.bfloat16 if uses_bfloat16(config.train) else torch.float32
    measured = _matrix_rate(dtype)
    how = f"{CPU_SHARE:.0%} of {measured / 1e9:.0f} GFLOP/s measured in {str(dtype).removeprefix('torch.')}"
    return CPU_SHARE * measured, f"CPU, {torch.get_num_threads()} threads: {how}"


def seconds_of_answers(device: Device, prompts: int, tokens: int, rows: int, weights: float, cache: float) -> float:
    """Seconds to decode `prompts` answers of `tokens`, `rows` at a time, on one device.

    Args:
        weights: bytes of the model.
        cache: bytes of keys and values of one token of one row; a step reads half of a full row's on average.
    """
    rounds = -(-prompts // rows)
    step = weights + min(rows, prompts) * cache * tokens / 2
    return rounds * tokens * step / (ANSWER_SHARE * device.memory)


def _matrix_rate(dtype: torch.dtype, size: int = 1024, seconds: float = 0.2) -> float:
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    left @ right  # the first call sets things up
    started, products = time.monotonic(), 0
    while time.monotonic() < started + seconds:
        left @ right
        products += 1
    return 2 * size**3 * products / (time.monotonic() - started)
