"""Growth: what a training step costs against examples, document length, batch, and vocabulary; a CSV and a plot.

    python -m benchmarks.growth --out benchmarks/results/growth.csv      # and growth.png beside it; 5 minutes
    python -m benchmarks.growth --plot benchmarks/results/growth.csv     # the plot again

A Llama of 8 layers and width 256 with random weights is trained by this project's loss and packing on random documents,
one thing varied at a time from 16 documents of 128 tokens, half of them response, and 16,384 entries of vocabulary.
Sizes take turns, smallest first and largest first. Seconds are processor time of one thread, which other users of the
machine disturb least; memory is the growth of the process's peak in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._common import ROOT, both_orders, machine, table
from harness.data.batching import IGNORE_INDEX, Document, micro_batches
from harness.data.tokenize import tokenize_examples
from harness.models.attention import packed_attention
from harness.models.onednn import fast_linear
from harness.system.memory import retain_freed_memory
from harness.train.loss import ResponseLoss


@dataclass(frozen=True)
class Size:
    """One point."""

    documents: int = 16
    length: int = 128
    vocabulary: int = 16384
    micro_batch_tokens: int = 2048


VARIED: dict[str, tuple[str, list[int]]] = {
    "documents per step": ("documents", [4, 8, 16, 32, 64]),
    "document length, tokens": ("length", [32, 64, 128, 256, 512, 1024]),
    "vocabulary": ("vocabulary", [4096, 8192, 16384, 32768, 65536, 131072]),
    "tokens per micro-batch": ("micro_batch_tokens", [256, 512, 1024, 2048, 4096]),
}
DATA_SIZES = [1000, 2000, 4000, 8000, 16000, 32000]
COLUMNS = ("varied", "value", "tokens", "seconds", "lowest", "highest", "peak_gb")


def points() -> list[tuple[str, int, Size]]:
    """What is varied, to what, and all sizes of that point."""
    found = []
    for label, (name, values) in VARIED.items():
        base = Size(documents=64) if name == "micro_batch_tokens" else Size()
        found += [(label, value, replace(base, **{name: value})) for value in values]
    return found


def measure_steps(size: Size, repeats: int) -> tuple[list[float], float]:
    """Processor seconds of optimiser steps, and the peak of memory in GB beyond what is needed before the model."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).train()
    objective = ResponseLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)
    documents = [_document(index, size) for index in range(size.documents)]
    seconds = []
    with packed_attention(model), fast_linear(model), retain_freed_memory():
        for _ in range(repeats + 1):
            start = time.process_time()
            batches = micro_batches(documents, layout="packed", max_tokens=size.micro_batch_tokens)
            targets = sum(batch.n_targets for batch in batches)
            for batch in batches:
                (objective(batch)[0] / targets).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.process_time() - start)
    return seconds[1:], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9


def _document(index: int, size: Size) -> Document:
    tokens = np.random.default_rng(index).integers(0, size.vocabulary, size.length)
    return Document(index, tokens, np.where(np.arange(size.length) < size.length // 2, IGNORE_INDEX, tokens))


def measure_data(count: int) -> float:
    """Processor seconds to check, read and tokenize `count` builtin examples."""
    from transformers import AutoTokenizer

    from harness.config import DatasetConfig
    from harness.data import load_examples

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "harness/assets/tiny_tokenizer")
    start = time.process_time()
    train, _ = load_examples(DatasetConfig(name="builtin", size=count, heldout=0))
    tokenize_examples(train, tokenizer)
    return time.process_time() - start


def measure(repeats: int) -> list[dict[str, float | str]]:
    """All rows of the CSV."""
    listed = {f"{label}={value}": (label, value, size) for label, value, size in points()}
    taken: dict[str, list[float]] = {name: [] for name in listed}
    peaks: dict[str, float] = {}
    for name in both_orders(list(listed), 2):
        command = [sys.executable, "-m", "benchmarks.growth", "--alone", json.dumps(asdict(listed[name][2]))]
        done = subprocess.run(
            [*command, "--repeats", str(repeats)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds, peak = json.loads(done.stdout.splitlines()[-1])
        taken[name] += seconds
        peaks[name] = max(peak, peaks.get(name, 0.0))
        print(name, f"{median(seconds):.3f} s, {peak:.2f} GB", file=sys.stderr, flush=True)
    rows = []
    for name, (label, value, size) in listed.items():
        rows.append(_row(label, value, size.documents * size.length, taken[name], round(peaks[name], 3)))
    for count in DATA_SIZES:
        rows.append(_row("examples read and tokenised", count, 0, [measure_data(count + extra) for extra in (0, 1)]))
    return rows


def _row(label: str, value: int, tokens: int, seconds: list[float], peak: float | str = "") -> dict[str, float | str]:
    figures = [median(seconds), min(seconds), max(seconds)]
    return dict(zip(COLUMNS, [label, value, tokens, *(round(each, 4) for each in figures), peak], strict=True))


def exponents(rows: list[dict[str, str]]) -> str:
    """A table: how cost grows from the second largest value to the largest, 1 is linear, 0 is constant."""
    lines = []
    for label in dict.fromkeys(row["varied"] for row in rows):
        own = [row for row in rows if row["varied"] == label]
        steps = math.log(float(own[-1]["value"]) / float(own[-2]["value"]))
        time_exponent = math.log(float(own[-1]["seconds"]) / float(own[-2]["seconds"])) / steps
        peaks = [float(row["peak_gb"]) for row in own[-2:] if row["peak_gb"]]
        memory = f"{math.log(peaks[1] / peaks[0]) / steps:.2f}" if peaks else ""
        lines.append([label, f"{own[0]['value']} to {own[-1]['value']}", f"{time_exponent:.2f}", memory])
    return table(["varied", "values", "exponent of time", "exponent of memory"], lines)


def plot(file: Path) -> list[dict[str, str]]:
    """Write the plot beside the CSV; returns its rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    with open(file, encoding="utf-8") as opened:
        rows = list(csv.DictReader(line for line in opened if not line.startswith("#")))
    labels = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = pyplot.subplots(1, len(labels), figsize=(4 * len(labels), 3.6), layout="constrained")
    for label, axis in zip(labels, axes, strict=True):
        own = [{key: float(row[key] or "nan") for key in COLUMNS[1:]} for row in rows if row["varied"] == label]
        values, middle = [row["value"] for row in own], [row["seconds"] for row in own]
        spreads = [[row["seconds"] - row["lowest"] for row in own], [row["highest"] - row["seconds"] for row in own]]
        axis.errorbar(values, middle, yerr=spreads, marker="o", capsize=3, label="CPU seconds")
        axis.plot(values, [middle[-1] * value / values[-1] for value in values], ":", color="grey", label="linear")
        axis.plot(values, [row["peak_gb"] for row in own], marker="s", label="peak memory, GB")
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.minorticks_off()
        axis.set_xticks(values, [f"{value:g}" if value < 1e4 else f"{value / 1000:.0f}k" for value in values])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.grid(True, alpha=0.3)
    axes[0].legend()
    figure.savefig(file.with_suffix(".png"), dpi=110)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the CSV to write")
    parser.add_argument("--plot", type=Path, help="only plot this CSV")
    parser.add_argument("--repeats", type=int, default=3, help="steps of each point in each of the two orders")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure_steps(Size(**json.loads(arguments.alone)), arguments.repeats)))
        return
    if arguments.plot is None:
        if arguments.out is None:
            parser.error("give --out FILE.csv or --plot FILE.csv")
        rows = measure(arguments.repeats)
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write(f"# {machine()}\n")
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    print(exponents(plot(arguments.plot or arguments.out)))


if __name__ == "__main__":
    main()
