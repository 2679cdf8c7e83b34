"""`python -m harness.judge leaderboard`: the runs of a folder as AlpacaEval's leaderboard.csv."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.judge.annotations import Row, by_sample, read_annotations
from harness.metrics import length_controlled_win_rate, style_controlled_win_rates, win_rate
from harness.record import write_text
from harness.record.escape import escape_controls

# AlpacaEval's own columns in its own order, then ours.
COLUMNS = (
    *("", "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode"),
    *("avg_length", "length_controlled_winrate", "lc_standard_error"),
    *("style_controlled_win_rate", "style_low", "style_high"),
)
_MODE = "community"  # AlpacaEval's mark for results not verified by its authors


def leaderboard(
    files: Sequence[Path], difficulty: Path | None, gamed: Path | None, category: str | None = None
) -> list[dict[str, Any]]:
    """One row a model, best first: by the length-controlled rate where there is one, else by the win rate.

    Args:
        files: annotations.json of each model, of one judge and one baseline.
        difficulty, gamed: AlpacaEval's tables for length control; None leaves its columns empty.
        category: take the rows of this `dataset` alone (each of Arena-Hard's has a baseline of its own); None: all.

    Raises:
        ValueError: no file, a bad one, several judges or baselines, or two files of one model.
    """
    if not files:
        raise ValueError("no annotations.json to make a leaderboard of; judge the runs first")
    read = {path: _of_category(path, category) for path in files}
    _check_one(read, "annotator")
    _check_one(read, "generator_1")
    models: dict[str, Path] = {}
    for path, rows in read.items():
        name = str(rows[0]["generator_2"])
        if name in models:
            raise ValueError(f"{path} and {models[name]} both hold the verdicts on {name}")
        models[name] = path
    styles = _style([row for rows in read.values() for sample in by_sample(rows) for row in sample])
    table = [_row(name, read[path], difficulty, gamed) | styles.get(name, {}) for name, path in models.items()]
    key = "length_controlled_winrate" if difficulty is not None else "win_rate"
    return sorted(table, key=lambda row: -row[key])


def _of_category(path: Path, category: str | None) -> list[Row]:
    rows = read_annotations(path)
    kept = [row for row in rows if category is None or row.get("dataset") == category]
    if not kept:
        there = ", ".join(sorted({str(row.get("dataset", "(none)")) for row in rows}))
        raise ValueError(f"--category={category}: {path} has no such rows; it has {there}")
    return kept


def _row(name: str, rows: list[Row], difficulty: Path | None, gamed: Path | None) -> dict[str, Any]:
    lengths = [len(row["output_2"]) for row in rows]
    found = {"": name, "mode": _MODE, **win_rate([row["preference"] for row in rows], lengths)}
    if difficulty is not None and gamed is not None:
        each = [length_controlled_win_rate(sample, difficulty, gamed) for sample in by_sample(rows)]
        keys = ("length_controlled_winrate", "lc_standard_error")
        found |= {key: fmean(controlled[key] for controlled in each) for key in keys}
    return found


def _style(rows: list[Row]) -> dict[str, dict[str, float]]:
    """All models together, as in Arena-Hard; empty, with the reason, if no finite rate fits."""
    try:
        return style_controlled_win_rates(rows)
    except ValueError as error:
        print(f"style_controlled_win_rate is left empty: {escape_controls(error)}", file=sys.stderr)
        return {}


def _check_one(read: dict[Path, list[Row]], key: str) -> None:
    """Refuse several judges or baselines, whose rates cannot be compared."""
    values: dict[str, list[Path]] = defaultdict(list)
    for path, rows in read.items():
        for value in dict.fromkeys(str(row[key]) for row in rows):
            values[value].append(path)
    if len(values) > 1:
        shown = "; ".join(f"{value} in {paths[0]} and {len(paths) - 1} more" for value, paths in values.items())
        raise ValueError(f"{key} has several values, expected one: {shown}")


def as_csv(table: Sequence[dict[str, Any]]) -> str:
    """The table as AlpacaEval writes it: full precision, an empty cell where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table:
        writer.writerow(["" if _is_missing(row.get(column)) else row[column] for column in COLUMNS])
    return text.getvalue()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def add_parser(commands: Any) -> None:
    """Add the sub-command `leaderboard` to the parser of `python -m harness.judge`."""
    parser = commands.add_parser("leaderboard", help="write AlpacaEval's leaderboard.csv for runs")
    parser.add_argument("sources", nargs="+", type=Path, help="annotations files, or folders of runs")
    parser.add_argument("--judge", help="the annotator to use, if a folder has several")
    parser.add_argument("--category", help="use only rows of this category (their `dataset`)")
    parser.add_argument("--difficulty", type=Path, help="AlpacaEval's instruction_difficulty.csv, for length control")
    parser.add_argument("--gamed", type=Path, help="AlpacaEval's df_gamed.csv, for length control")
    parser.add_argument("--output", type=Path, help="file to write (default: standard output)")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> None:
    """Collect, score and write.

    Raises:
        ValueError: as `leaderboard`, or only one of the two tables is given.
    """
    if (arguments.difficulty is None) != (arguments.gamed is None):
        raise ValueError("give both --difficulty and --gamed, or neither")
    files = [path for source in arguments.sources for path in _files(source, arguments.judge)]
    text = as_csv(leaderboard(files, arguments.difficulty, arguments.gamed, arguments.category))
    if arguments.output is None:
        print(text, end="")
    else:
        write_text(arguments.output, text)


def _files(source: Path, judge: str | None) -> list[Path]:
    """The source itself, or the annotations of its runs, if given only those of the named judge."""
    if not source.is_dir():
        return [source]
    pattern = "annotations.json" if judge is None else "annotations*.json"
    found = sorted([*source.glob(pattern), *source.glob(f"*/{pattern}")])
    return [path for path in found if judge is None or read_annotations(path)[0]["annotator"] == judge]
