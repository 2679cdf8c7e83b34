"""What the noise costs: a training step of SmolLM2-135M with each kind, divided by the same step without.

    python benchmarks/noise_cost.py [--rounds 5] [--rows 4] [--length 256] [--threads 2] [--clock wall|cpu]

The model has SmolLM2-135M's shape and random weights, which are as fast as trained ones. Kinds take turns in a
round, so that a slow minute of the machine meets all of them; a ratio is the median over rounds of the ratio
within the round. The kind "none, again" shows how much of a ratio is the machine. On a shared machine
--threads 1 --clock cpu is steadier. Prints a Markdown table; --max-single and --max-pair make it a check.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.noise import PRESETS, EmbeddingNoise, Noise, noise_generators, perturb

SMOLLM2_135M = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    use_cache=False,
)
# Label -> preset and whether its pair runs in two passes; None: no noise at all.
KINDS: dict[str, tuple[str, bool] | None] = {
    "none": None,
    "none, again": None,
    "neftune": ("neftune", False),
    "neftune_hf": ("neftune_hf", False),
    "gaussian": ("gaussian", False),
    "bernoulli_matched": ("bernoulli_matched", False),
    "embedding_dropout": ("embedding_dropout", False),
    "symnoise, concat": ("symnoise", False),
    "symnoise, sequential": ("symnoise", True),
    "neftune_x2, concat": ("neftune_x2", False),
}
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
COLUMNS = ("noise", "s per step", "ratio", "lowest to highest", "noise alone, ms", "share of a step")


def batch_of(rows: int, length: int) -> dict[str, Tensor]:
    """Random tokens, every row but the first padded a little."""
    ids = torch.randint(3, SMOLLM2_135M.vocab_size, (rows, length))
    mask = (torch.arange(length) < length - 7 * torch.arange(rows)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def step(
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    kind: tuple[str, bool] | None,
) -> None:
    """One optimiser step with the noise of a kind."""
    if kind is None:
        model(**batch).loss.backward()
    else:
        preset, sequential = kind
        mode = "sequential" if sequential else "concat"
        with EmbeddingNoise(model, Noise(**PRESETS[preset]), 0, mode) as injector:  # type: ignore[arg-type]
            for half in (0, 1) if sequential else (None,):
                if half is not None:
                    injector.half(half)
                (model(**batch).loss / (2 if sequential else 1)).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def seconds_of_steps(rounds: int, batch: dict[str, Tensor], clock: Callable[[], float]) -> dict[str, list[float]]:
    """One step of each kind in a round, starting with another kind each time; by label."""
    model = LlamaForCausalLM(SMOLLM2_135M).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    seconds: dict[str, list[float]] = {label: [] for label in KINDS}
    step(model, optimizer, batch, None)
    for turn in range(rounds):
        shift = turn % len(KINDS)
        for label in (list(KINDS) * 2)[shift : shift + len(KINDS)]:
            start = clock()
            step(model, optimizer, batch, KINDS[label])
            seconds[label].append(clock() - start)
        print(f"round {turn + 1} of {rounds} done", file=sys.stderr)
    return seconds


def seconds_of_noise(preset: str, batch: dict[str, Tensor], clock: Callable[[], float]) -> float:
    """The noise outside of any model, generators and layout included; median of 15."""
    rows, length = batch["input_ids"].shape
    embeddings, seconds = torch.randn(rows, length, SMOLLM2_135M.hidden_size), []
    for turn in range(15):
        start = clock()
        generators = noise_generators(0, turn, range(rows))
        perturb(embeddings, batch["attention_mask"], Noise(**PRESETS[preset]), generators)
        seconds.append(clock() - start)
    return median(seconds)


def machine() -> str:
    """Processor, versions and commit."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    command = ["git", "describe", "--always", "--dirty"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    processor = names[0] if names else platform.processor()
    commit = git.stdout.strip() or "unknown"
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, commit {commit}"


def main() -> int:
    """Measure, print the table, and return 1 where a ratio passes a limit given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--max-single", type=float, help="largest ratio of one-sided noise, e.g. 1.02")
    parser.add_argument("--max-pair", type=float, help="largest ratio of a pair, e.g. 2.05")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    batch, clock = batch_of(options.rows, options.length), CLOCKS[options.clock]
    seconds = seconds_of_steps(options.rounds, batch, clock)
    too_slow = []
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for label, kind in KINDS.items():
        ratios = [one / none for one, none in zip(seconds[label], seconds["none"], strict=True)]
        cost = seconds_of_noise(kind[0], batch, clock) if kind else 0.0
        print(
            f"| {label} | {median(seconds[label]):.2f} | {median(ratios):.3f} | {min(ratios):.3f} to "
            f"{max(ratios):.3f} | {1000 * cost:.2f} | {cost / median(seconds['none']):.3%} |",
            flush=True,
        )
        limit = options.max_pair if kind and Noise(**PRESETS[kind[0]]).halves == 2 else options.max_single
        if kind and limit is not None and median(ratios) > limit:
            too_slow.append(label)
    size = f"{options.rows} x {options.length} tokens, {options.rounds} rounds"
    print(f"\n{size}, {options.threads} threads, {options.clock} clock; {machine()}.")
    print("".join(f"Too slow: {label}\n" for label in too_slow), end="")
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
