"""What is installed, which GPU a process sees, and what its products reach in each precision."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator

import torch
import transformers

from benchmarks.gpu.setting import Finding, Setting


def versions(setting: Setting) -> Iterator[Finding]:
    """Which release-dependent features the harness finds; each has a fallback, so a missing one is not wrong."""
    from torch.distributed.run import get_args_parser

    from harness.models.varlen import flash_function, torch_function

    options = {option for action in get_args_parser()._actions for option in action.option_strings}
    varlen = torch_function()
    gqa = varlen is not None and "enable_gqa" in inspect.signature(varlen).parameters
    yield Finding("torch, transformers", f"{torch.__version__}, {transformers.__version__}")
    yield Finding("device", "CPU" if setting.cpu else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    yield Finding("flash-attn", "used" if flash_function() else "absent or does not load")
    yield Finding("varlen_attn", f"{'used' if varlen else 'too old'}, heads of keys grouped by it: {gqa}")
    yield Finding("torchrun --shutdown-timeout", str("--shutdown-timeout" in options))


def visible_after_cuda(setting: Setting) -> Iterator[Finding]:
    """A run sets CUDA_VISIBLE_DEVICES after asking whether there are GPUs: does that still take effect?"""
    code = (
        "import os, torch; torch.cuda.is_available(); os.environ['CUDA_VISIBLE_DEVICES'] = ''; "
        "print(torch.zeros(1, device='cuda').device)"
    )
    environment = {**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    told = (done.stdout + done.stderr).strip().splitlines()
    good = None if setting.cpu else done.returncode != 0
    yield Finding("GPUs hidden after is_available", told[-1][:120] if told else "", good)


def precisions(setting: Setting) -> Iterator[Finding]:
    """The rates that explain assumes: products in float32, TF32 and bfloat16."""
    side = setting.size(8192, 64)
    a = torch.randn(side, side, device=setting.device)
    before = torch.get_float32_matmul_precision()
    try:
        for name, mode in (("float32", "highest"), ("TF32", "high")):
            torch.set_float32_matmul_precision(mode)
            yield Finding(name, f"{2 * side**3 / setting.milliseconds(lambda: a @ a, 5) / 1e9:.3g} TFLOP/s")
    finally:
        torch.set_float32_matmul_precision(before)
    b = a.bfloat16()
    yield Finding("bfloat16", f"{2 * side**3 / setting.milliseconds(lambda: b @ b) / 1e9:.3g} TFLOP/s")
