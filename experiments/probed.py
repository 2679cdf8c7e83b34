"""What noise did to the probes: `python -m experiments.probed RUNS FOLDER` compares finished runs in pairs.

Reads every RUNS/*/probes.json and writes table.md, runs.csv, curvature.png and machine.json into FOLDER. A value of a
run is compared with that of another run with the same seed on the same example along the same directions; the interval
is over seeds and examples (analysis.stats.estimates.mean_over_seeds_and_instructions).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml

from analysis.render.formats import pipe_table
from analysis.stats import holm, mean_over_seeds_and_instructions, p_value, relative_change
from analysis.study.baseline import paired
from experiments.collect import machine
from harness.record import read_json, write_json, write_text

METHODS = ["neftune", "neftune_x2", "symnoise_matched", "symnoise"]
# (treatment, control): against nothing, and the pair against two independent draws of the same variance and compute.
PAIRS = [*((method, "none") for method in METHODS), ("symnoise_matched", "neftune_x2"), ("symnoise_matched", "neftune")]
MEASURES = {
    "curvature/rademacher/5": "curvature at 5",
    "curvature/rademacher/15": "curvature at 15",
    "slope/rademacher/5": "slope at 5",
    "logit_slope/rademacher/5": "logit slope at 5",
    "logit_curvature/rademacher/5": "logit curvature at 5",
    "logit_curvature/rademacher/15": "logit curvature at 15",
    "symmetric_kl/rademacher/15": "symmetric KL at 15",
    "flips/rademacher/15": "flips at 15",
    "loss/rademacher/15": "loss at 15",
    "gradient_norm": "gradient norm",
    "mean_curvature": "trace / (L d)",
    "top_eigenvalue": "top eigenvalue",
    "loss": "clean loss",
}


def main() -> None:
    """Read, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="output folder of the study's run.sh")
    parser.add_argument("folder", type=Path, help="the study's folder")
    parser.add_argument(
        "--primary",
        default="curvature/rademacher/5,curvature/rademacher/15",
        help="measures chosen before the runs: Holm's correction is over all their comparisons, the others are for "
        "orientation (default: %(default)s)",
    )
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.runs.glob("*/probes.json"))
    if not folders:
        parser.error(f"{arguments.runs}: no finished runs")
    values = pd.concat([tidy(folder) for folder in folders], ignore_index=True)
    write(values, arguments.folder, arguments.primary.split(","))
    write_json(arguments.folder / "machine.json", machine(folders[-1]))


def write(values: pd.DataFrame, folder: Path, primary: list[str]) -> None:
    """Every value, the tables and the figure."""
    values.to_csv(folder / "runs.csv", index=False, float_format="%.7g")
    compared = comparisons(values[values.trained], primary)
    write_text(folder / "table.md", means_table(values) + "\n" + differences_table(compared))
    draw(compared, folder / "curvature.png")


def tidy(folder: Path) -> pd.DataFrame:
    """One row for each example and measure of a run."""
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    probes = read_json(folder / "probes.json")
    heldout = {row["document"]: row["loss"] for row in probes["predictions"] if row["split"] == "heldout"}
    where = {"noise": config["noise"]["name"], "alpha": config["alpha"], "seed": config["seed"]}
    where["trained"] = config["train"]["lr"] > 1e-20
    rows: list[dict[str, Any]] = []
    for row in probes["smoothness"]:
        measured = {**row, "loss": heldout[row["document"]]}
        rows += [
            {**where, "example": row["document"], "measure": name, "value": measured[name]}
            for name in MEASURES
            if measured.get(name) is not None
        ]
    return pd.DataFrame(rows)


def comparisons(values: pd.DataFrame, primary: list[str]) -> pd.DataFrame:
    """One row for each alpha, pair of methods and measure: difference, interval, relative change, Holm's p."""
    by_measure = {name: values[values.measure == name] for name in MEASURES if name in set(values.measure)}
    rows = []
    for alpha in sorted(set(values.alpha) - {0.0}):
        for treatment, control in PAIRS:
            sides = ({"noise": treatment, "alpha": alpha}, {"noise": control, "alpha": alpha * (control != "none")})
            for measure, of_measure in by_measure.items():
                treated_SI, control_SI = paired(of_measure, "value", *sides, item="example")
                if treated_SI.size:
                    estimate = mean_over_seeds_and_instructions(treated_SI - control_SI)
                    relative = relative_change(treated_SI, control_SI)
                    numbers = (estimate.runs, estimate.instructions, float(control_SI.mean()))
                    intervals = [bound for each in (estimate, relative) for bound in (each.mean, each.low, each.high)]
                    rows.append((alpha, f"{treatment} - {control}", measure, *numbers, *intervals, p_value(estimate)))
    found = pd.DataFrame(rows, columns=COLUMNS)
    found["p (Holm)"] = holm(found.p.where(found.measure.isin(primary)).to_numpy(float))
    return found


COLUMNS = [
    *("alpha", "comparison", "measure", "seeds", "examples", "base", "difference", "low", "high"),
    *("percent", "percent low", "percent high", "p"),
]


def means_table(values: pd.DataFrame) -> str:
    """Mean of every measure over seeds and examples."""
    kept = values.assign(noise=values.noise.where(values.trained, "before training"))
    means = kept.groupby(["measure", "noise", "alpha"], sort=False).value.mean().unstack([1, 2])
    means = means.loc[[name for name in MEASURES if name in means.index]].rename(index=MEASURES)
    means.columns = [f"{noise} {alpha:g}" if alpha else noise for noise, alpha in means.columns]
    seeds = kept.groupby(["noise", "alpha"], sort=False).seed.nunique()
    counts = ", ".join(f"{noise} {alpha:g}: {count}" for (noise, alpha), count in seeds.items())
    return f"**Means over seeds and examples** (seeds: {counts})\n\n{_markdown(means, 4)}\n"


def differences_table(compared: pd.DataFrame) -> str:
    """Differences with 95% intervals, one table for each alpha and comparison."""
    parts = []
    for (alpha, comparison), rows in compared.groupby(["alpha", "comparison"], sort=False):
        table = pd.DataFrame(
            {
                "difference": [f"{r.difference:.3g} [{r.low:.3g}, {r.high:.3g}]" for r in rows.itertuples()],
                "change (%)": [
                    f"{m:+.2f} [{a:+.2f}, {b:+.2f}]"
                    for m, a, b in zip(rows["percent"], rows["percent low"], rows["percent high"], strict=True)
                ],
                "p": [f"{p:.3f}" for p in rows.p],
                "p (Holm)": ["" if np.isnan(p) else f"{p:.3f}" for p in rows["p (Holm)"]],
                "seeds x examples": [f"{r.seeds} x {r.examples}" for r in rows.itertuples()],
            },
            index=[MEASURES[name] for name in rows.measure],
        )
        parts.append(f"**{comparison}, alpha {alpha:g}**\n\n{_markdown(table)}\n")
    return "\n".join(parts)


def _markdown(table: pd.DataFrame, digits: int = 4) -> str:
    rows = (
        [str(name), *(cell if isinstance(cell, str) else f"{cell:.{digits}g}" for cell in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return pipe_table(["", *map(str, table.columns)], rows)


def draw(compared: pd.DataFrame, path: Path) -> None:
    """Draw the change of curvature relative to the other method, with intervals."""
    shown = ["curvature/rademacher/5", "curvature/rademacher/15", "logit_curvature/rademacher/15"]
    figure, axes = plt.subplots(1, len(shown), figsize=(13, 4), sharey=True, layout="constrained")
    for axis, measure in zip(axes, shown, strict=True):
        rows = compared[compared.measure == measure].iloc[::-1].reset_index(drop=True)
        errors = np.abs(rows[["percent low", "percent high"]].to_numpy().T - rows["percent"].to_numpy())
        axis.errorbar(rows["percent"], np.arange(len(rows)), xerr=errors, fmt="o", capsize=3)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_xlabel(f"change of {MEASURES[measure]} (%)")
        axis.set_yticks(np.arange(len(rows)), [f"{r.comparison}, {r.alpha:g}" for r in rows.itertuples()])
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
