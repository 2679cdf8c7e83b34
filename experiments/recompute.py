"""Recompute a planned study's verdicts from its by_run.csv and by_family.csv: `python -m experiments.recompute FOLDER`.

A second way from the numbers to the verdicts, which shares with the first one only the statistics of arrays: pairs by
seed are made here, from two plain files, without run folders. Prints each verdict; fails where verdicts.csv differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import stats
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.measures import ITEMS, Measures
from analysis.study.metrics import metric
from analysis.study.verdicts import Comparison, decide
from experiments.plan import FILE, Plan, read_plan
from harness.metrics.names import current

BY_RUN, BY_FAMILY = "by_run.csv", "by_family.csv"
_KEYS = ["run_id", "noise", "alpha", "seed"]


def write_numbers(runs: Runs, plan: Plan, folder: Path) -> None:
    """A line for each run with its measures, and for each run and task family the mean of what each item has.

    Instructions of a single family or source are listed one by one.
    """
    measures, frame = Measures(runs), runs.runs
    names = [*plan.verdicts.primary, *plan.verdicts.exploratory, "noise/ratio"]
    run_ids = [str(run_id) for run_id in frame["run_id"]]
    by_run = frame[_KEYS].assign(**{name: measures.of_runs(name, run_ids) for name in names if measures.has(name)})
    by_run.sort_values(_KEYS[1:]).to_csv(folder / BY_RUN, index=False)
    parts = [_families(measures, name, run_ids) for name in names if name in ITEMS]
    found = [part for part in parts if not part.empty]
    if found:
        pd.concat(found).to_csv(folder / BY_FAMILY, index=False)


def _families(measures: Measures, name: str, run_ids: list[str]) -> pd.DataFrame:
    items = measures.items(name, run_ids)
    if items.empty:
        return pd.DataFrame()
    names = measures.runs.clusters.reindex(items.index)
    if names.nunique() < 2:  # one cluster says nothing of the scatter: each instruction stands for itself
        names = pd.Series([f"instruction {number}" for number in range(len(items))], index=items.index)
    grouped = items.assign(family=names).groupby("family")
    means = grouped.mean().reset_index().melt("family", var_name="run_id", value_name="mean")
    return means.assign(measure=name, items=means["family"].map(grouped.size()))


def recompute(folder: Path) -> list[tuple[str, str, str, str]]:
    """(noise, alpha, measure, verdict) of every planned comparison, in the plan's order of measures."""
    plan = read_plan(folder / FILE)
    by_run = pd.read_csv(folder / BY_RUN, dtype={"run_id": str}).rename(columns=current)
    path = folder / BY_FAMILY
    by_family = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["measure"])
    by_family = by_family.assign(measure=by_family["measure"].map(current))
    keys, found, controls = [], [], []
    base = by_run[by_run["noise"] == plan.verdicts.baseline]
    for name in plan.verdicts.primary:
        for (noise, alpha), ours in by_run[by_run["noise"] != plan.verdicts.baseline].groupby(["noise", "alpha"]):
            if plan.verdicts.compared and noise not in plan.verdicts.compared:
                continue
            theirs = base if plan.verdicts.baseline == "none" else base[base["alpha"] == alpha]
            both = ours.merge(theirs, on="seed", suffixes=("", "_base")).sort_values("seed")
            if len(both):
                keys.append((str(noise), f"{float(alpha):g}", name))
                found.append(_difference(both, name, by_family[by_family["measure"] == name]))
                controls.append(float(both[f"{name}_base"].mean()))
    tested = stats.with_shared_scatter(found, [name for *_, name in keys])
    comparisons = [
        Comparison(name, each, control, plan.verdicts.primary[name])
        for (*_, name), each, control in zip(keys, tested, controls, strict=True)
    ]
    return [(*key, str(decision)) for key, decision in zip(keys, decide(comparisons), strict=True)]


def _difference(both: pd.DataFrame, name: str, by_family: pd.DataFrame) -> Estimate:
    if by_family.empty:
        return stats.mean_over_seeds((both[name] - both[f"{name}_base"]).to_numpy(float))
    means = by_family.pivot(index="run_id", columns="family", values="mean")
    sizes = by_family.groupby("family")["items"].first()[means.columns].to_numpy(int)
    values_SG = means.loc[both["run_id"]].to_numpy() - means.loc[both["run_id_base"]].to_numpy()
    families = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    # Each item as its family's mean: sums over families, which are what is taken for independent, stay the same.
    return stats.mean_over_seeds_and_instructions(np.repeat(values_SG, sizes, axis=1), clusters_I=families)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    written = pd.read_csv(folder / "verdicts.csv", dtype=str)
    other = 0
    for noise, alpha, name, verdict in recompute(folder):
        row = written[(written["noise"] == noise) & (written["alpha"] == alpha)]
        said = row[row["measure"] == metric(name).header]["verdict"].iloc[0]
        other += said != verdict
        print(f"{noise:<18}{alpha:>4}  {name:<24}{verdict}{'' if said == verdict else f'   BUT verdicts.csv: {said}'}")
    return int(other > 0)


if __name__ == "__main__":
    sys.exit(main())
