"""The trial on a GPU: kernels against the definition, training and generation beside the others, noise and pairs.

    python -m benchmarks.gpu --out benchmarks/results/gpu --data alpaca.json --model FOLDER --instructions FILE

Runs the scripts named below with the settings meant for a GPU and keeps what each prints, with machine and commit. Both
sizes have random weights, which are as fast as trained ones; generation needs a real model (--model) and instructions.
MFU is the share of the matrix products' own rate that training reaches, as in the tables' last lines.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._common import ROOT, installed, machine, table
from harness.models.attention import segment_attention
from harness.models.varlen import Kernel, choose_kernel, varlen_attention

LENGTHS = (5, 300, 1, 77, 512, 129)
TRAINING = {
    "fp32": ("harness fp32", "HF Trainer fp32", "TRL fp32, no checkpointing", "TRL fp32, packing, no checkpointing"),
    "bf16": (
        "harness bf16",
        "HF Trainer bf16",
        "TRL bf16, no checkpointing",
        "TRL bf16, packing, no checkpointing",
        "padded loop bf16",
    ),
}


def kernels() -> str:
    """Each kernel that is there against attention document by document in float64: largest difference, time."""
    rows = []
    for kernel, dtype in (
        ("flash_attn", torch.bfloat16),
        ("torch_varlen", torch.bfloat16),
        ("flex", torch.bfloat16),
        ("flex", torch.float32),
    ):
        if kernel == "flash_attn" and installed("flash-attn") is None:
            rows.append([kernel, str(dtype), "not installed", "", "", ""])
            continue
        for window in (None, 64):
            forward, backward, milliseconds = _compare(kernel, dtype, window)  # type: ignore[arg-type]
            rows.append([kernel, str(dtype), window, f"{forward:.1e}", f"{backward:.1e}", f"{milliseconds:.2f}"])
    chosen = ", ".join(
        f"{dtype}: {choose_kernel(torch.device('cuda'), dtype)}" for dtype in (torch.bfloat16, torch.float32)
    )
    header = [
        "kernel",
        "precision",
        "window",
        "difference forward",
        "difference of gradients",
        "ms forward and backward",
    ]
    return f"chosen: {chosen}\n\n{table(header, rows)}"


def _compare(kernel: Kernel, dtype: torch.dtype, window: int | None) -> tuple[float, float, float]:
    tokens = sum(LENGTHS)
    heads = [torch.randn(1, count, tokens, 64, device="cuda", dtype=dtype, requires_grad=True) for count in (9, 3, 3)]
    wide = [each.detach().cpu().double().requires_grad_() for each in heads]
    reference, _ = segment_attention(
        torch.nn.Identity(), *wide, None, sliding_window=window, segment_lengths=(LENGTHS,)
    )
    direction = torch.randn_like(reference)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        attended = varlen_attention(kernel, *heads, LENGTHS, window, None)
        return attended, torch.autograd.grad(attended, heads, direction.to("cuda", dtype))

    ours, gradients = run()
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        run()
    torch.cuda.synchronize()
    milliseconds = 1000 * (time.perf_counter() - start) / 20
    expected = torch.autograd.grad(reference, wide, direction)
    differences = [_relative(*pair) for pair in zip(gradients, expected, strict=True)]
    return _relative(ours, reference), max(differences), milliseconds


def _relative(ours: Tensor, reference: Tensor) -> float:
    return float((ours.detach().cpu().double() - reference).norm() / reference.norm())


def commands(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Name of the record -> module and arguments."""
    found = {}
    for size in ("135m", "1b"):
        for precision, contenders in TRAINING.items():
            attention = "sdpa" if precision == "fp32" or installed("flash-attn") is None else "flash_attention_2"
            found[f"training-{size}-{precision}"] = [
                *("benchmarks.training", "--size", size, "--data", arguments.data, "--steps", "10", "--repeats", "4"),
                *("--attention", attention, "--contenders", *contenders),
            ]
    found["noise-cost"] = ["benchmarks.noise_cost"]
    if arguments.model and arguments.instructions:
        shared = [
            "--model",
            arguments.model,
            "--data",
            arguments.instructions,
            "--prompts",
            "805",
            "--slots",
            "64",
            "256",
        ]
        for dtype in ("float32", "bfloat16"):
            found[f"generation-{dtype}"] = [
                "benchmarks.generation",
                *shared,
                "--dtype",
                dtype,
                "--batch-sizes",
                "32",
                "128",
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is printed, one file a part")
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/alpaca_999.json"))
    parser.add_argument("--model", help="folder of a real model, for generation")
    parser.add_argument("--instructions", help="JSON rows with an instruction each, for generation")
    parser.add_argument("--only", nargs="+", help="parts to run, by name")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: torch sees no GPU here")
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = {"kernels": None, **commands(arguments)}
    for name, command in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        if command is None:
            text = f"{machine()}\n\n{kernels()}\n"
        else:
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
            )
            text = done.stdout if done.returncode == 0 else f"failed with status {done.returncode}\n{done.stdout}"
        (arguments.out / f"{name}.md").write_text(text)
        print(f"\n## {name}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
