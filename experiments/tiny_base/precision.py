"""Whether the hardware computes in bfloat16 itself, instead of emulating it at a loss."""

from __future__ import annotations

import torch

# Of `torch.cpu.get_capabilities`: matrix instructions for bfloat16 on x86 and ARM.
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_FIRST_CUDA_CAPABILITY = (8, 0)


def bf16_supported(device: torch.device | str) -> bool:
    """Whether bfloat16 is native on this device: a CPU with the instructions, or CUDA capability 8.0 and up.

    torch runs bfloat16 anywhere, but without hardware for it slower than float32. Other kinds of device:
    False.
    """
    device = torch.device(device)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in _CPU_INSTRUCTIONS)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _FIRST_CUDA_CAPABILITY
    return False
