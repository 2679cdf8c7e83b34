"""Each method beside plain training that saw as few documents in as many steps: python as_few_documents.py RUNS

Reads the run folders, pairs held-out losses by seed and writes as-few-documents.md beside this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.stats import holm, mean_over_seeds, p_value
from harness.record import read_json, write_text

HERE = Path(__file__).parent
LOSS, DOCUMENTS = "heldout/loss", "train/documents"
METHODS = ["r3f", "neftune_x2", "rdrop", "symnoise", "sam", "freelb", "vat", "smart"]
# Rows that a method forwards for a document -> documents in its steps of 12 rows: the batch of the plain runs.
FEWER = {2: 6, 3: 4}
THREE_ROWS = ("freelb", "vat", "smart")


def main() -> None:
    """Read, pair, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="output folder of the study")
    found = by_setting(parser.parse_args().runs)
    rows, estimates = [], []
    for method in METHODS:
        ours, plain = found[method, 12], found["none", FEWER[3 if method in THREE_ROWS else 2]]
        seeds = sorted(ours.keys() & plain.keys())
        estimate = mean_over_seeds(np.array([ours[seed][LOSS] - plain[seed][LOSS] for seed in seeds]))
        estimates.append(estimate)
        rows.append(
            [method, *(f"{np.mean([run[DOCUMENTS] for run in runs.values()]):.0f}" for runs in (ours, plain))]
            + [f"{np.mean([run[LOSS] for run in runs.values()]):.3f}" for runs in (ours, plain)]
            + [f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]", str(len(seeds))]
        )
    corrected = holm(np.array([p_value(estimate) for estimate in estimates]))
    lines = [[*row, f"{p:.3f}"] for row, p in zip(rows, corrected, strict=True)]
    header = ["method", "documents", "of plain", "held-out loss (nats)", "of plain", "difference", "seeds", "p (Holm)"]
    table = ["| " + " | ".join(line) + " |" for line in (header, ["---", *["---:"] * 7], *lines)]
    write_text(HERE / "as-few-documents.md", "\n".join(table) + "\n")


def by_setting(folder: Path) -> dict[tuple[str, int], dict[int, dict[str, Any]]]:
    """(noise, documents or rows a step) -> seed -> summary, of the runs of study.yaml."""
    found: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for summary in sorted(folder.glob("*/summary.json")):
        config = yaml.safe_load((summary.parent / "config.yaml").read_text("utf-8"))
        data, train, noise = config["dataset"], config["train"], config["noise"]["name"]
        recipe = (data["name"], data["size"], data["prompt"], train["lr"]) == ("builtin", 400, "none", 1e-3)
        of_study = train["budget"] == "equal_forward_rows" or (noise == "none" and train["max_steps"] == 136)
        if recipe and of_study and config["alpha"] in (0.0, 5.0):
            found.setdefault((noise, train["batch_size"]), {})[config["seed"]] = read_json(summary)["final"]
    return found


if __name__ == "__main__":
    main()
