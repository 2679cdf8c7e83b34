"""`python -m harness.judge lengths`: how much of a difference is due to length.

Three views in addition to the length-controlled rate, for a file of verdicts or for two runs: verdicts on answers of
similar length, what always-longest would have said, and (with a judge) both answers cut to the same length.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.judge.annotations import Row, join_on_instruction, read_annotations
from harness.judge.ask import ask
from harness.judge.audit import judge_config
from harness.judge.base import Comparison, Judge
from harness.metrics import length_matched_win_rate, win_rate
from harness.record.escape import escape_controls

TOLERANCES = (0.1, 0.25, 0.5)


def pair_of(first: Path, second: Path | None) -> list[Row]:
    """Rows of output_1 against output_2: one file's own, or the answers of two runs to the same instructions.

    For two runs the preference compares their verdicts against the baseline: 1.5 + (p_2 - p_1) / 2. It judges each
    against the baseline, not one against the other.

    Raises:
        ValueError: a bad file, other judges or baselines, or instructions that only one of the two has.
    """
    rows = read_annotations(first)
    if second is None:
        return rows
    pairs, report = join_on_instruction(rows, read_annotations(second), str(first), str(second))
    if not report.complete:
        raise ValueError(f"{second}: other instructions than {first}: {report.describe(str(first), str(second))}")
    for key in ("annotator", "generator_1"):
        if {row[key] for row, _ in pairs} != {row[key] for _, row in pairs}:
            raise ValueError(f"{second}: {key} is {pairs[0][1][key]!r}, in {first} it is {pairs[0][0][key]!r}")
    return [_beside(one, other) for one, other in pairs]


def _beside(one: Row, other: Row) -> Row:
    known = one["preference"] is not None and other["preference"] is not None
    return {
        "instruction": one["instruction"],
        "output_1": one["output_2"],
        "generator_1": one["generator_2"],
        "output_2": other["output_2"],
        "generator_2": other["generator_2"],
        "preference": 1.5 + (other["preference"] - one["preference"]) / 2 if known else None,
    }


def cut_to_equal_length(row: Row) -> Row:
    """Both answers cut to whole words within the shorter one's characters; at least one word is kept."""
    limit = min(len(row["output_1"]), len(row["output_2"]))
    return {**row, **{key: _cut(row[key], limit) for key in ("output_1", "output_2")}}


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[:limit]
    whole = head if text[limit].isspace() else re.sub(r"\S+\Z", "", head)
    return whole.rstrip() or head


def looks(rows: Sequence[Row], judge: Judge | None, store: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and `win_rate` of output_2 in each view; those with a judge ask it about every pair."""
    preferences = [row["preference"] for row in rows]
    ours_N, theirs_N = ([len(row[key]) for row in rows] for key in ("output_2", "output_1"))
    longest = [1.5 + 0.5 * ((ours > theirs) - (ours < theirs)) for ours, theirs in zip(ours_N, theirs_N, strict=True)]
    found = [("as judged", win_rate(preferences, ours_N)), ("always-longest", win_rate(longest, ours_N))]
    for tolerance in TOLERANCES:
        matched = length_matched_win_rate(preferences, ours_N, theirs_N, tolerance)
        found.append((f"lengths within {tolerance:.0%}", matched))
    if judge is not None:
        for name, shown in (("asked as they are", rows), ("cut to equal length", [*map(cut_to_equal_length, rows)])):
            verdicts = ask(judge, [_comparison(row) for row in shown], store)
            said = [verdict.preference for verdict in verdicts]
            found.append((name, win_rate(said, [len(row["output_2"]) for row in shown])))
    return found


def _comparison(row: Row) -> Comparison:
    return Comparison(row["instruction"], row["output_1"], row["output_2"], row["output_1"], row.get("dataset", ""))


def add_parser(commands: Any) -> None:
    """Add the sub-command `lengths` to the parser of `python -m harness.judge`."""
    parser = commands.add_parser("lengths", help="measure how much of a difference is due to length")
    parser.add_argument("first", type=Path, help="annotations.json")
    parser.add_argument("--against", type=Path, help="annotations.json of a second run to compare with")
    parser.add_argument(
        "overrides", nargs="*", help="judge=NAME judge.KEY=VALUE: also judge answers cut to equal length"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> None:
    """Look and print.

    Raises:
        ValueError: as `pair_of`, or an unknown judge or key.
    """
    rows, judge, store = pair_of(arguments.first, arguments.against), None, Path("verdicts.sqlite")
    if arguments.overrides:
        from harness.judge.judges.registry import load_judge

        config = judge_config(arguments.overrides)
        judge, store = load_judge(config, False, Path(".")), Path(config.store or store).expanduser()
    found = looks(rows, judge, store)
    if arguments.json:
        plain = {name: {key: _plain(value) for key, value in row.items()} for name, row in found}
        print(json.dumps(plain, indent=1))
        return
    print(escape_controls(f"{rows[0]['generator_2']} against {rows[0]['generator_1']}"))
    print(f"{'':<24}{'win %':>10}{'std error':>11}{'verdicts':>10}{'characters':>12}")
    for name, row in found:
        rate, error = (f"{row[key]:.2f}" if not math.isnan(row[key]) else "-" for key in ("win_rate", "standard_error"))
        print(f"{name:<24}{rate:>10}{error:>11}{row['n_total']:>10}{row['avg_length']:>12}")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
