"""Where models compute, decided once for every stage, and freeing their memory afterwards."""

from __future__ import annotations

import gc
import os
from typing import Any

import torch
from torch import nn


def computing_device() -> torch.device:
    """The device of this process: its GPU if there is one, whatever the settings; else the CPU.

    Each of several processes has the GPU of its LOCAL_RANK (set by torchrun).
    """
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    other = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if other is None else torch.device(other.type)


def place(model: Any) -> Any:
    """The model on `computing_device`, moved there if necessary.

    A 4-bit base is loaded onto its GPU and stays there; so does a model that is split over several devices.
    """
    device = computing_device()
    if {parameter.device for parameter in model.parameters()} != {device} and not _stays(model):
        model = model.to(device)
    return model


def _stays(model: Any) -> bool:
    return bool(getattr(model, "is_quantized", False)) or getattr(model, "hf_device_map", None) is not None


def located(model: Any) -> str:
    """Where a model computes and in which dtype, for the log: `on cuda:0 (NVIDIA H100 80GB HBM3), bfloat16`."""
    return f"{describe(model.device)}, {str(model.dtype).removeprefix('torch.')}"


def describe(device: torch.device) -> str:
    """The name of a device for the log: `on cuda:0 (NVIDIA H100 80GB HBM3)`, `on the CPU (8 threads)`."""
    if device.type == "cpu":
        return f"on the CPU ({torch.get_num_threads()} threads)"
    if device.type == "cuda" and torch.cuda.is_initialized():  # asking for the name would initialise CUDA
        return f"on {device} ({torch.cuda.get_device_name(device)})"
    return f"on {device}"


def supports_bfloat16() -> bool:
    """Whether this process computes on a GPU with bfloat16 in hardware: NVIDIA since Ampere, all of AMD's."""
    if computing_device().type != "cuda":
        return False
    return torch.version.cuda is None or torch.cuda.is_bf16_supported(including_emulation=False)


def bfloat16_is_slower() -> bool:
    """Whether products in bfloat16 take this CPU longer than in float32: by its kind, never by a timing.

    Of x86 processors those gain that have matrix units (AMX), and AMD's with avx512_bf16; Intel's without AMX take 1.6
    times as long in spite of the same instructions (docs/performance.md), older ones convert (not measured). Others are
    not known.
    """
    able = torch.cpu.get_capabilities()
    if computing_device().type != "cpu" or able.get("architecture") != "x86_64":
        return False
    return not (able.get("amx_bf16") or (able.get("avx512_bf16") and "Intel" not in str(able.get("cpu_name"))))


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the parameters to another floating-point type one by one, so that there are never two whole copies.

    Buffers are kept: rotary frequencies in 16 bits would shift every position (`Module.to` casts them, too).
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def free_memory() -> None:
    """Collect reference cycles that hold models, and return the GPU memory that torch caches to the driver."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
