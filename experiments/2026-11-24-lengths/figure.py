"""Held-out loss against the noise that a document got, from runs.csv beside this file."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from analysis import read_table

HERE = Path(__file__).parent
LOSS, NORM = "eval loss (nats)", "norm of the noise"
LOOKS = {"true": ("#0072B2", "o"), "padded": ("#D55E00", "s"), "row": ("#009E73", "^")}


def main() -> None:
    """Draw losses.png: a point of each length and alpha, 95% t intervals over seeds; the line is no noise."""
    rows = read_table(HERE / "runs.csv").to_dict("records")
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for row in rows:
        loss, norm = float(row[LOSS]), float(row[NORM])
        if row["noise"] == "none":
            axes.axhline(loss, color="black", linestyle=":", label="no noise")
            continue
        colour, marker = LOOKS[row["noise.length"]]
        spread = [[loss - float(row[f"{LOSS} low"])], [float(row[f"{LOSS} high"]) - loss]]
        label = f"L = {row['noise.length']}, alpha {row['alpha']}"
        fill = colour if row["alpha"] == "100" else "white"
        axes.errorbar(
            norm, loss, yerr=spread, color=colour, marker=marker, markerfacecolor=fill, label=label, linestyle=""
        )
    axes.set(xlabel="norm of a document's noise", ylabel="eval loss (nats)", yscale="log")
    axes.set_yticks([1, 2, 4], ["1", "2", "4"])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    figure.savefig(HERE / "losses.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
