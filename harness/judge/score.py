"""`python -m harness.judge score`: the leaderboard numbers of any AlpacaEval annotations file."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from harness.judge.annotations import Row, read_annotations
from harness.metrics import length_controlled_win_rate, win_rate, win_rate_by_category
from harness.record.escape import escape_controls

HUB = "hub"
HUB_DATASET = "tatsu-lab/alpaca_eval"
HUB_FILES = {"difficulty": "instruction_difficulty.csv", "gamed": "df_gamed.csv"}

_FIGURES = {  # key -> (label, unit), in the order of the printed table
    "win_rate": ("win rate", "%"),
    "standard_error": ("  standard error", "points"),
    "length_controlled_winrate": ("length-controlled win rate", "%"),
    "lc_standard_error": ("  standard error", "points"),
    "lc_low": ("  least over close C", "%"),
    "lc_high": ("  greatest over close C", "%"),
    "C": ("  C", ""),
    "discrete_win_rate": ("discrete win rate", "%"),
    "n_wins": ("wins", "verdicts"),
    "n_wins_base": ("losses", "verdicts"),
    "n_draws": ("draws", "verdicts"),
    "n_total": ("total", "verdicts"),
    "n_dropped": ("without a verdict", "rows"),
    "avg_length": ("average output", "characters"),
}
_IDENTITY = ("generator_2", "generator_1", "annotator")


def score(
    path: Path,
    length_controlled: bool = False,
    difficulty: Path | None = None,
    gamed: Path | None = None,
    C: float | None = None,
) -> dict[str, Any]:
    """AlpacaEval's leaderboard row of an annotations file, with who was judged by whom.

    Args:
        path: annotations.json of any version.
        length_controlled: add the length-controlled win rate, which needs both tables.
        difficulty, gamed: AlpacaEval's instruction_difficulty.csv and df_gamed.csv (or tables in their form).
        C: inverse strength of the L1 penalty; None chooses it as upstream does.

    Returns:
        The keys of `win_rate` (and of `length_controlled_win_rate`); annotator, generator_1 and
        generator_2, as text, with several values joined by commas; mixed, those of these with several values;
        by_category with `win_rate` of each source, empty if the rows have no `dataset`.

    Raises:
        ValueError: the file is not in AlpacaEval's form, a table is missing for the length-controlled win
            rate, or its instructions have no difficulty.
    """
    rows = read_annotations(path)
    preferences = [row["preference"] for row in rows]
    lengths = [len(row["output_2"]) for row in rows]
    identity = {key: list(dict.fromkeys(row[key] for row in rows)) for key in _IDENTITY}
    result: dict[str, Any] = {
        **{key: ", ".join(values) for key, values in identity.items()},
        "mixed": [key for key, values in identity.items() if len(values) > 1],
        **win_rate(preferences, lengths),
        "by_category": _by_category(rows, preferences, lengths),
    }
    if not length_controlled:
        return result
    if difficulty is None or gamed is None:
        missing = " and ".join(["--difficulty"] * (difficulty is None) + ["--gamed"] * (gamed is None))
        raise ValueError(
            f"--length-controlled needs {missing}: the paths of AlpacaEval's {HUB_FILES['difficulty']} and "
            f"{HUB_FILES['gamed']}, or `{HUB}` to fetch them from the Hub's data set {HUB_DATASET}"
        )
    return {**result, **length_controlled_win_rate(rows, difficulty, gamed, C)}


def add_parser(commands: Any) -> None:
    """Add the sub-command `score` to the parser of `python -m harness.judge`."""
    parser = commands.add_parser("score", help="compute the leaderboard metrics of an annotations file")
    parser.add_argument("annotations", type=Path, help="annotations.json")
    parser.add_argument(
        "--length-controlled", action="store_true", help="add AlpacaEval 2.0's length-controlled win rate"
    )
    for name, file in HUB_FILES.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=f"AlpacaEval's {file}: a path, or `{HUB}` to fetch it")
    parser.add_argument("--C", type=float, help="inverse strength of the L1 penalty (default: by cross-validation)")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> None:
    """Score the file and print the table or the JSON.

    Raises:
        ValueError: as `score`, or an option is given that needs --length-controlled.
    """
    options = {"--difficulty": arguments.difficulty, "--gamed": arguments.gamed, "--C": arguments.C}
    given = [name for name, value in options.items() if value is not None]
    if given and not arguments.length_controlled:
        raise ValueError(f"{', '.join(given)}: no effect without --length-controlled")
    tables = {name: _local(name, getattr(arguments, name)) for name in HUB_FILES}
    result = score(arguments.annotations, arguments.length_controlled, **tables, C=arguments.C)
    print(
        json.dumps(_without_nan(result), indent=1, allow_nan=False)
        if arguments.json
        else escape_controls(describe(result))
    )


def describe(result: dict[str, Any]) -> str:
    """The result of `score` as an aligned table with units."""
    lines = [f"{result['generator_2']} against {result['generator_1']}, judged by {result['annotator']}"]
    lines += [f"note: several values of {key}; the numbers average over them" for key in result["mixed"]]
    for key, (label, unit) in _FIGURES.items():
        if key in result:
            shown = f"{result[key]:.8g}" if key == "C" and result[key] else _number(result[key])
            lines.append(f"{label:<28}{shown:>12}  {unit}".rstrip())
    if result.get("by_C"):
        origin = "given" if result["C_is_given"] else "best held-out log-loss"
        lines += [f"\n{'C (' + origin + ')':<28}{'LC win %':>12}{'log-loss':>12}"]
        lines += [
            f"{row['C']:<28.7g}{row['length_controlled_winrate']:>12.4f}{row['cv_log_loss']:>12.6f}"
            for row in result["by_C"]
        ]
    if result["by_category"]:
        lines += [f"\n{'source':<28}{'win %':>12}{'std error':>12}{'verdicts':>12}{'characters':>12}"]
        lines += [
            f"{name:<28}{_number(row['win_rate']):>12}{_number(row['standard_error']):>12}"
            f"{row['n_total']:>12}{row['avg_length']:>12}"
            for name, row in result["by_category"].items()
        ]
    return "\n".join(lines)


def _by_category(rows: list[Row], preferences: list[float | None], lengths: list[int]) -> dict[str, dict[str, Any]]:
    if not any("dataset" in row for row in rows):
        return {}
    return win_rate_by_category(preferences, [row.get("dataset", "(none)") for row in rows], lengths)


def _local(name: str, value: str | None) -> Path | None:
    if value is None or value != HUB:
        return None if value is None else Path(value)
    from huggingface_hub import hf_hub_download

    print(f"fetching {HUB_FILES[name]} from the Hub's data set {HUB_DATASET}", file=sys.stderr)
    return Path(hf_hub_download(HUB_DATASET, HUB_FILES[name], repo_type="dataset"))


def _number(value: float | int | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
