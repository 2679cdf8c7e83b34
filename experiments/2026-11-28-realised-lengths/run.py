"""Realised over intended norm of built-in NEFTune's noise on the lengths of a data file, by batch and layout.

    python experiments/2026-11-28-realised-lengths/run.py MODEL DATA [--epochs 20]

transformers' `neftune_noise_alpha` scales by the width of the batch (padded) or of the flattened or packed row, so that
a document's noise has sqrt(its length / that width) of the intended norm. That this is what the real packages do is
measured by benchmarks/builtin_neftune.py; here the same rule meets the lengths of real data in shuffled batches.
Writes table.md beside this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from harness.config.compose import compose
from harness.data.documents import load_documents
from harness.pipeline.plan import config_from
from harness.pipeline.ratio import _chosen

BATCHES = (4, 16, 64)
PACKED = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--epochs", type=int, default=20, help="shuffles that are averaged over")
    arguments = parser.parse_args()
    words = [*_chosen("model", arguments.model), *_chosen("dataset", arguments.data), *arguments.overrides]
    config = config_from(compose(words), words)
    lengths = np.array([len(each) for each in load_documents(config.dataset, config.model).train])
    generator = np.random.default_rng(0)
    rows = []
    for layout, size in [
        *(("padded", size) for size in BATCHES),
        *(("flattened", size) for size in BATCHES),
        ("packed", 0),
    ]:
        shares = np.concatenate(
            [_shares(generator.permutation(lengths), layout, size) for _ in range(arguments.epochs)]
        )
        low, middle, high = np.quantile(shares, (0.05, 0.5, 0.95))
        name = f"{layout}, {size} documents" if size else f"packed rows of {PACKED} tokens"
        rows.append(
            f"| {name} | {shares.mean():.2f} | {low:.2f} | {middle:.2f} | {high:.2f} | {alpha_of(middle):.1f} |"
        )
    quantiles = np.quantile(lengths, (0.05, 0.5, 0.95))
    head = (
        f"{len(lengths)} documents of {', '.join(f'{value:.0f}' for value in quantiles)} tokens (5%, median, 95%), "
        f"{arguments.epochs} shuffles.\n\n"
        "| batch | mean | 5% of documents | median | 95% | what alpha 5 is for the median |\n"
        "|---|---:|---:|---:|---:|---:|\n"
    )
    (Path(__file__).parent / "table.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


def alpha_of(share: float) -> float:
    """What alpha 5 is at this share of its norm."""
    return 5 * share


def _shares(lengths: np.ndarray, layout: str, size: int) -> np.ndarray:
    """sqrt(length / width) of each document, in batches or rows as they come."""
    if layout == "packed":
        ends = np.cumsum(lengths) // PACKED
        groups = [lengths[ends == row] for row in np.unique(ends)]
    else:
        groups = [lengths[start : start + size] for start in range(0, len(lengths) - size + 1, size)]
    widths = [group.max() if layout == "padded" else group.sum() for group in groups]
    return np.concatenate([np.sqrt(group / width) for group, width in zip(groups, widths, strict=True)])


if __name__ == "__main__":
    main()
