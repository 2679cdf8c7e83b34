"""`python -m harness.judge audit`: how far a judge can be trusted, on pairs that GPT-4 or people have judged.

Position bias and agreement between the orders need the judge itself, which is asked about a sample in both orders.
The length preference and two controls show how much of the verdicts a mindless rule would reproduce.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.config import JudgeConfig, defaults
from harness.config.messages import keys_of, one_line, rule_violations
from harness.judge.annotations import Row, order_is_switched, read_annotations
from harness.judge.ask import ask
from harness.judge.base import Comparison, Judge
from harness.record.escape import escape_controls

_FIGURES = {  # key -> (label, unit)
    "win_rate": ("win rate of output 2", "%"),
    "n_rows": ("rows", ""),
    "n_unparsed": ("without a verdict", "rows"),
    "prefers_first": ("prefers the answer shown first", "% of choices"),
    "order_agreement": ("the same winner in both orders", "% of rows"),
    "prefers_longer": ("prefers the longer answer", "% of choices"),
    "mean_length_gap": ("winner longer than loser by", "characters"),
    "agreement": ("agrees with the file's verdicts", "% of rows"),
    "longest_win_rate": ("always-longest: win rate", "%"),
    "longest_agreement": ("always-longest: agreement with the file", "% of rows"),
    "first_win_rate": ("always-first: win rate, AlpacaEval's order", "%"),
    "first_agreement": ("always-first: agreement with the file", "% of rows"),
}


def audit(rows: Sequence[Row], judge: Judge | None, store: Path) -> dict[str, Any]:
    """Bias and agreement of a judge, or of the verdicts that the rows hold.

    Args:
        rows: as `read_annotations` returns them, with the verdicts to agree with.
        judge: asked about every row in both orders; None audits the file's own verdicts, assumed to be in AlpacaEval's
            order.
        store: the verdict store.

    Returns:
        prefers_first, prefers_longer, order_agreement, agreement in percent, draws and rows without a verdict left
        out of each; mean_length_gap in characters; the controls always-first and always-longest with the win rate
        they would give and their agreement with the file; n_rows, n_unparsed. NaN where there is nothing to count.
    """
    given = [_winner(row["preference"]) for row in rows]
    longest = [_sign(len(row["output_2"]) - len(row["output_1"])) for row in rows]
    switched = [order_is_switched(row["instruction"]) for row in rows]
    first = [1 if swapped else -1 for swapped in switched]
    if judge is None:
        preferences = [row["preference"] for row in rows]
        shown = [(row["preference"], swapped) for row, swapped in zip(rows, switched, strict=True)]
        orders = {"prefers_first": _prefers_first(shown)}
    else:
        preferences, orders = _ask_in_both_orders(rows, judge, store)
    chosen = [_winner(preference) for preference in preferences]
    gaps = [len(row["output_2"]) - len(row["output_1"]) for row in rows]
    known = [preference for preference in preferences if preference is not None]
    return {
        "win_rate": 100 * _mean([preference - 1 for preference in known]),
        "n_rows": len(rows),
        "n_unparsed": len(rows) - len(known),
        **orders,
        "prefers_longer": _agreement(chosen, longest),
        "mean_length_gap": _mean([choice * gap for choice, gap in zip(chosen, gaps, strict=True) if choice]),
        **({} if judge is None else {"agreement": _agreement(chosen, given)}),
        "longest_win_rate": 100 * _mean([(choice + 1) / 2 for choice in longest]),
        "longest_agreement": _agreement(longest, given),
        "first_win_rate": 100 * _mean([(choice + 1) / 2 for choice in first]),
        "first_agreement": _agreement(first, given),
    }


def _ask_in_both_orders(rows: Sequence[Row], judge: Judge, store: Path) -> tuple[list[float | None], dict[str, float]]:
    """Mean preference of the two orders per row, position bias, and how often both orders agree on a winner."""
    judge.orders = (True,)
    pairs = [
        Comparison(row["instruction"], row["output_1"], row["output_2"], row["output_1"], row.get("dataset", ""))
        for row in rows
    ]
    after = [verdict.preference for verdict in ask(judge, pairs, store)]
    judge.orders = (False,)
    before = [verdict.preference for verdict in ask(judge, pairs, store)]
    both = list(zip(before, after, strict=True))
    shown = [(preference, False) for preference in before] + [(preference, True) for preference in after]
    winners = ([_winner(one) for one in before], [_winner(other) for other in after])
    preferences = [None if one is None or other is None else (one + other) / 2 for one, other in both]
    return preferences, {"prefers_first": _prefers_first(shown), "order_agreement": _agreement(*winners)}


def _prefers_first(shown: Sequence[tuple[float | None, bool]]) -> float:
    """Percent of choices for the answer shown first; 50 is no bias."""
    choices = [(_winner(preference), swapped) for preference, swapped in shown]
    return 100 * _mean([float((choice > 0) == swapped) for choice, swapped in choices if choice])


def _agreement(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Percent of rows with the same winner, over the rows where both have one."""
    return 100 * _mean([float(one == other) for one, other in zip(ours, theirs, strict=True) if one and other])


def _winner(preference: float | None) -> int:
    """1 output 2, -1 output 1, 0 a draw or no verdict."""
    return 0 if preference is None else _sign(preference - 1.5)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def add_parser(commands: Any) -> None:
    """Add the sub-command `audit` to the parser of `python -m harness.judge`."""
    parser = commands.add_parser("audit", help="measure a judge's bias and its agreement with an annotations file")
    parser.add_argument("annotations", type=Path, help="annotations.json with the verdicts to compare with")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="judge=NAME, judge/prompt=NAME, judge.KEY=VALUE; default: the file's verdicts",
    )
    parser.add_argument("--sample", type=int, help="number of rows, drawn with --seed (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> None:
    """Audit and print.

    Raises:
        ValueError: a bad file, an unknown judge or key, a sample that is larger than the file.
    """
    rows = read_annotations(arguments.annotations)
    if arguments.sample is not None:
        if not 1 <= arguments.sample <= len(rows):
            raise ValueError(f"--sample={arguments.sample}: {arguments.annotations} has {len(rows)} rows")
        rows = random.Random(arguments.seed).sample(rows, arguments.sample)
    config = judge_config(arguments.overrides) if arguments.overrides else None
    name = ", ".join(dict.fromkeys(row["annotator"] for row in rows))
    judge, store = None, Path("verdicts.sqlite")
    if config is not None:
        from harness.judge.judges.registry import load_judge

        judge, store = load_judge(config, False, Path(".")), Path(config.store or store).expanduser()
        name = f"{judge.identity.id}, against the verdicts of {name}"
    result = {"judge": name, **audit(rows, judge, store)}
    plain = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}
    print(json.dumps(plain, indent=1) if arguments.json else escape_controls(describe(plain)))


def judge_config(overrides: Sequence[str]) -> JudgeConfig:
    """Settings from judge=NAME (default: reference) and judge.KEY=VALUE, as for `python -m harness`.

    Raises:
        ValueError: a malformed override, an unknown judge, or a key or value that the schema refuses.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from pydantic import ValidationError

    from harness.config.compose import compose

    for key in (override.partition("=")[0].lstrip("+~") for override in overrides):
        if key not in ("judge", "judge/prompt") and not key.startswith("judge."):
            raise ValueError(f"{key}: expected judge=NAME, judge/prompt=NAME or judge.KEY=VALUE")
    try:
        return JudgeConfig.model_validate(OmegaConf.to_container(compose(overrides).judge, resolve=True))
    except ValidationError as error:
        raise ValueError(rule_violations(error, "judge")) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error, keys_of(defaults()))) from error


def describe(result: dict[str, Any]) -> str:
    """The result as an aligned table with units."""
    lines = [result["judge"]]
    for key, (label, unit) in _FIGURES.items():
        if key in result:
            value = result[key]
            shown = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.1f}"
            lines.append(f"{label:<44}{shown:>10}  {unit}".rstrip())
    return "\n".join(lines)
