"""A study of five cells with known chances, and its tables."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

from analysis import load_runs
from analysis.render.table import Table, Value
from analysis.stats import Estimate
from analysis.tables.build import build
from analysis.tables.layouts import layout_named
from support.run_folders import config_of, write_run


def sweep(root: Path, seeds: int = 3, items: int = 24, **settings: object) -> None:
    """none, neftune and symnoise at two alphas, with answers that get better from one to the next."""
    generator = random.Random(5)
    cells = [("none", 0, 0.3), ("neftune", 5, 0.4), ("neftune", 10, 0.6), ("symnoise", 5, 0.7), ("symnoise", 10, 0.5)]
    for seed in range(seeds):
        for noise, alpha, chance in cells:
            won = [generator.choices([2.0, 1.0], [chance, 1 - chance])[0] for _ in range(items)]
            lengths = [generator.randint(5, 60) for _ in range(items)]
            final = {"eval/loss": 1 + generator.random(), "train/seconds": 10.0 * (2 if noise == "symnoise" else 1)}
            write_run(root, config_of(noise, alpha, seed, **settings), final, won, lengths)


def tables_of(source: Path, name: str = "ablation") -> list[Table]:
    return build(load_runs(source), layout_named(name))


def cell(table: Table, labels: list[str], header: str, group: str = "") -> Value:
    places = [i for i, c in enumerate(table.columns) if c.header == header and c.group == group]
    rows = [values for found, values in table.rows if found == labels]
    assert len(places) == len(rows) == 1, (header, labels, [row[0] for row in table.rows])
    return rows[0][places[0]]


def estimate(table: Table, labels: list[str], header: str, group: str = "") -> Estimate:
    value = cell(table, labels, header, group)
    assert isinstance(value, Estimate)
    return value


def raw(root: Path, noise: str, alpha: float) -> list[dict[str, Any]]:
    """Per seed, from the files alone: win rate, mean length, and the wins one by one."""
    found = []
    for folder in sorted(root.glob(f"tiny-{noise}{f'-a{alpha:g}' if alpha else ''}-s*")):
        rows = json.loads((folder / "annotations.json").read_text())
        wins = [100 * (row["preference"] - 1) for row in rows]
        lengths = [len(row["output_2"]) for row in rows]
        found.append({"win": mean(wins), "length": mean(lengths), "wins": wins, "lengths": lengths})
    return found
