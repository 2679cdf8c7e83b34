"""The papers' numbers (published.csv), shown next to ours and never averaged with them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

# A column of published.csv and the corresponding setting of a run.
SETTINGS = {
    "model": "model",
    "dataset": "dataset",
    "noise": "noise",
    "alpha": "alpha",
    "epochs": "train.epochs",
}


@cache
def published() -> pd.DataFrame:
    """Every published number: table, model, dataset, judge, noise, alpha, epochs, metric, value, source, recalled,
    note.

    Everything is text, values with the paper's digits, empty if the paper does not say. recalled is "yes" for a number
    that could not be re-read. dataset "mean" is the paper's mean over its data sets.
    """
    return pd.read_csv(Path(__file__).with_name("published.csv"), dtype=str, keep_default_na=False)


def of_tables(names: tuple[str, ...]) -> pd.DataFrame:
    """The published numbers of some tables, with settings named like those of a run.

    Raises:
        ValueError: there is no such table.
    """
    frame = published()
    missing = [name for name in names if name not in set(frame["table"])]
    if missing:
        raise ValueError(f"published table {missing[0]!r}: not in published.csv")
    return frame[frame["table"].isin(names)].rename(columns=SETTINGS)
