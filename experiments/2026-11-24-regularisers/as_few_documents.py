"""Each method against plain training on as few documents in as many steps: python as_few_documents.py RUNS

Reads the run folders, pairs held-out losses by seed and writes as-few-documents.md next to this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import load_runs
from analysis.render.formats import pipe_table
from analysis.stats import holm, mean_over_seeds, p_value
from analysis.study.baseline import paired
from harness.record import write_text

METHODS = ["r3f", "neftune_x2", "rdrop", "symnoise", "sam", "freelb", "vat", "smart"]
THREE_ROWS = ("freelb", "vat", "smart")
HEADS = ["method", "documents", "of plain", "eval loss (nats)", "of plain", "difference", "seeds", "p (Holm)"]


def main() -> None:
    """Read, pair, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="output folder of the study")
    runs = of_study(parser.parse_args().runs)
    rows, estimates = [], []
    for method in METHODS:
        # Plain training with as many documents a step as a method with two or three rows a document has in 12 rows.
        plain = {"noise": "none", "batch": 4 if method in THREE_ROWS else 6}
        losses = paired(runs, "eval/loss", ours := {"noise": method, "batch": 12}, plain)
        estimates.append(estimate := mean_over_seeds(losses[0] - losses[1]))
        means = [f"{mean(runs, each, key):{form}}" for key, form in MEANS for each in (ours, plain)]
        interval = f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
        rows.append([method, *means, interval, str(estimate.runs)])
    corrected = holm(np.array([p_value(estimate) for estimate in estimates]))
    table = pipe_table(HEADS, [[*row, f"{p:.3f}"] for row, p in zip(rows, corrected, strict=True)])
    write_text(Path(__file__).with_name("as-few-documents.md"), table + "\n")


MEANS = (("train/documents", ".0f"), ("eval/loss", ".3f"))


def mean(runs: pd.DataFrame, settings: dict[str, object], key: str) -> float:
    """Over the runs of these settings."""
    return float(runs[(runs["noise"] == settings["noise"]) & (runs["batch"] == settings["batch"])][key].mean())


def of_study(folder: Path) -> pd.DataFrame:
    """The runs of study.yaml, with the documents or rows of a step as `batch`."""
    recipe = {"dataset.name": "builtin", "dataset.size": 400, "dataset.prompt": "none", "train.lr": 1e-3}
    found = load_runs(folder, where={**recipe, "alpha": [0, 5]})
    configs = found.configs.loc[found.runs["run_id"]]
    runs = found.runs.assign(batch=configs["train.batch_size"].to_numpy())
    is_plain = (configs["noise.name"] == "none") & (configs["train.max_steps"] == 136)
    return runs[((configs["train.budget"] == "equal_forward_rows") | is_plain).to_numpy()]


if __name__ == "__main__":
    main()
