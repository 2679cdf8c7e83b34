"""The metrics of one judged run: win rates, length control, sources, and measures of the text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from harness.config import JudgeConfig
from harness.judge.annotations import Row, by_sample
from harness.judge.judges.registry import check_judge
from harness.metrics import (
    choosing_half,
    corpus_diversity,
    corpus_measures,
    win_fractions,
    win_rate,
    win_rate_by_category,
)
from harness.metrics.names import ACCURACY, PARTIAL_CREDIT
from harness.system.packages import require_package

# NEFTune 2310.05914 Table 4: how many words of each output count, by training set; shorter outputs are dropped.
WORDS = {"alpaca": 50, "evol_instruct": 100, "sharegpt": 150, "openplatypus": 150}
# What a checker says of an answer, as rows of annotations.json have it, and the metric (percent) that is its mean.
MARKS = {"correct": ACCURACY, "partial_credit": PARTIAL_CREDIT}
_LENGTH_CONTROLLED = ("length_controlled_winrate", "lc_standard_error", "lc_low", "lc_high", "C")


def judge_figures(rows: Sequence[Row], config: JudgeConfig) -> dict[str, float]:
    """AlpacaEval's leaderboard numbers, a win rate per source, and what a checker said (`MARKS`) if one judged.

    Of several samples an instruction counts once, with the mean of its verdicts; lengths are means over all answers,
    and the length-controlled figures the means of each sample's own.

    Raises:
        ValueError: no row has a verdict.
    """
    preferences = [row["preference"] for row in rows]
    samples = by_sample(rows)
    numbers: dict[str, Any] = win_rate(preferences, [len(row["output_2"]) for row in rows])
    numbers["avg_length"] = int(fmean(len(row["output_2"]) for sample in samples for row in sample))
    numbers["unparsed"] = numbers.pop("n_dropped")
    categories = win_rate_by_category(preferences, [row["dataset"] for row in rows])
    numbers |= {f"win_rate/{name}": figures["win_rate"] for name, figures in categories.items()}
    if config.difficulty is not None and config.gamed is not None and _lengths_vary(rows):
        from harness.metrics import length_controlled_win_rate  # imports pandas, which starts a thread

        each = [length_controlled_win_rate(sample, config.difficulty, config.gamed) for sample in samples]
        numbers |= {key: fmean(controlled[key] for controlled in each) for key in _LENGTH_CONTROLLED}
    found = {f"judge/{name}": value for name, value in numbers.items() if _is_finite(value)}
    return found | {MARKS[name]: mean for name, mean in _means(rows).items()} | selection_figures(rows)


def selection_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Win rate and marks of a checker (percent) on the half of the instructions that settings may be chosen on.

    They are what a search may look at; tables of its runs report the other half.
    """
    half = choosing_half([row["instruction"] for row in rows])
    chosen = [row for row, is_in in zip(rows, half, strict=True) if is_in]
    wins = win_fractions([row["preference"] for row in chosen])
    found = {MARKS[name].replace("judge/", "selection/"): mean for name, mean in _means(chosen).items()}
    if np.isfinite(wins).any():
        found["selection/win_rate"] = 100.0 * float(np.nanmean(wins))
    return found


def marked_figures(rows: Sequence[Row], groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Marks of a checker (percent) within each group of instructions, such as split and level."""
    members: dict[str, list[Row]] = defaultdict(list)
    for row, names in zip(rows, groups, strict=True):
        for name in names:
            members[name].append(row)
    means = {group: _means(each) for group, each in sorted(members.items())}
    return {f"{MARKS[name]}/{group}": mean for group, each in means.items() for name, mean in each.items()}


def _means(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each mark (percent) over the rows that have it; without those that no row has."""
    marks = {name: [row[name] for row in rows if name in row] for name in MARKS}
    return {name: 100.0 * sum(each) / len(each) for name, each in marks.items() if each}


def checked_figures(rows: Sequence[Row]) -> dict[str, float]:
    """IFEval's and IFBench's accuracies (percent) of prompts and of instructions, strict and loose."""
    from harness.judge.judges.instructions import instruction_figures

    return {
        f"judge/{name}": value for name, value in instruction_figures([row["raw_completion"] for row in rows]).items()
    }


def text_figures(texts: Sequence[str], finish_reasons: Sequence[str] | None, dataset: str) -> dict[str, float]:
    """Lengths, oddities and diversity of the model's outputs.

    Args:
        texts: the outputs.
        finish_reasons: "stop" or "length" of each, where known.
        dataset: the training set, which determines how many words count for diversity (WORDS, else 50).

    Returns:
        Keys `text/...`: those of `corpus_measures`; repetition_2_paper and repetition_2 in percent,
        log_diversity_paper and log_diversity; measured and too_short, the numbers of outputs on which diversity could
        and could not be measured. Means over no outputs are left out.
    """
    diversity = corpus_diversity(texts, WORDS.get(dataset, 50))
    numbers = {
        **corpus_measures(texts, finish_reasons),
        "measured": diversity["n_texts"],
        "too_short": diversity["n_dropped"],
        **{key: 100.0 * diversity[key] for key in ("repetition_2", "repetition_2_paper")},
        **{key: diversity[key] for key in ("log_diversity", "log_diversity_paper")},
    }
    return {f"text/{name}": value for name, value in numbers.items() if _is_finite(value)}


def check_length_control(
    config: JudgeConfig, instructions: Sequence[str], generators: Sequence[str], baseline: str
) -> None:
    """Read the tables of the length-controlled win rate before anything is paid for.

    Args:
        config: settings of the judge.
        instructions: the instructions to be judged.
        generators: who gave the baseline's answer to each; empty if not known yet.
        baseline: where those answers are, for messages.

    Raises:
        ValueError: a file is missing or broken, an instruction has no difficulty, the baseline's answers come from
            several generators, or scikit-learn is not installed.
    """
    if config.difficulty is None or config.gamed is None:
        return
    from harness.metrics import load_difficulty, load_gamed

    check_judge(config)
    require_package("sklearn", "judge.difficulty", "judge", "without both tables there is no length control")
    # Before anything is paid for: the fit itself would refuse them only after the last verdict.
    for row, generator in enumerate(generators):
        if generator != generators[0]:
            raise ValueError(
                f"{baseline}: generator is {generators[0]!r} in row 0 and {generator!r} in row {row}, but the "
                "length-controlled win rate (judge.difficulty) compares with one model; give answers of one generator, "
                "or leave judge.difficulty and judge.gamed out"
            )
    load_difficulty(config.difficulty, instructions)
    load_gamed(config.gamed)


def _lengths_vary(rows: Sequence[Row]) -> bool:
    """Whether the length difference varies: otherwise there is nothing to control for."""
    return len({len(row["output_1"]) - len(row["output_2"]) for row in rows}) > 1


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
