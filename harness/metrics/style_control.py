"""Win rates with style held equal: length and Markdown as covariates of a Bradley-Terry model, as Arena-Hard has it.

Source: lmarena/arena-hard-auto, show_result.py, utils/math_utils.py and utils/add_markdown_info.py (its "length" and
"markdown" controls together). N battles, M models, F = 4 features: length, headers, lists, bold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.metrics.preferences import win_fractions

Array = npt.NDArray[np.float64]
FEATURES = ("length", "headers", "lists", "bold")
ROUNDS = 100
"""Bootstrap samples, as upstream."""

_CODE = re.compile("```([^`]*)```")
_MARKS = (
    (r"^#{1,6}\s",),
    (r"^\s*\d+\.\s", r"^\s*[-*+]\s"),
    (r"\*\*[^*\n]+\*\*", r"__[^_\n]+__"),
)
_LARGEST = 30.0  # log-odds; beyond, the fit runs away to infinity


def style_controlled_win_rates(
    annotations: Sequence[Mapping[str, Any]], count: Callable[[str], int] = len, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The chance in percent that each model wins against the baseline, with the difference in style held equal.

    One logistic model for all models: log-odds = strength of the model + w . z, with the F features z scaled to mean 0
    and standard deviation 1 over all battles. The rate is the sigmoid of the strength. Style is held at the mean
    difference of all battles, not at none: give it all models of a list together. Of one model alone the rate stays
    near its win rate, however long its answers are.

    Args:
        annotations: rows of one baseline with preference, output_1 (baseline), output_2, generator_1 and generator_2.
        count: length of an answer. Upstream counts tokens of tiktoken's gpt-4o; here characters, unless given.
        rounds: bootstrap samples of the battles for the interval; 0 leaves it out.
        seed: of the bootstrap.

    Returns:
        By model: style_controlled_win_rate, style_low and style_high (5th and 95th percentile of the bootstrap),
        n_total, and the weights style_length, style_headers, style_lists, style_bold, which the models share; NaN for
        a feature that was left out.

    Raises:
        ValueError: several baselines, no verdict, or a model that wins or loses every battle.

    Deviates from upstream in three things. The rate is the fit on all battles instead of the bootstrap's median. An
    empty answer has no style instead of NaN. A feature that alone decides the few battles in which it differs has no
    finite weight: upstream's value is then where its optimiser happens to stop; here the feature is left out.
    """
    baselines = {row["generator_1"] for row in annotations}
    if len(baselines) != 1:
        raise ValueError(f"annotations: generator_1 has several values, expected one: {sorted(map(str, baselines))}")
    outcomes_N = win_fractions([row["preference"] for row in annotations])
    known = [row for row, outcome in zip(annotations, outcomes_N, strict=True) if not np.isnan(outcome)]
    outcomes_N = outcomes_N[~np.isnan(outcomes_N)]
    if not known:
        raise ValueError("annotations: no row has a verdict")
    models = sorted({str(row["generator_2"]) for row in known})
    place = {name: number for number, name in enumerate(models)}
    strength_NM = np.eye(len(models))[[place[str(row["generator_2"])] for row in known]]
    design = np.hstack([strength_NM, style_differences(known, count)])
    weights, kept = _fit_finite(design, outcomes_N, len(models))
    draws = _bootstrap(design * kept, outcomes_N, rounds, seed)
    found = {}
    for name, number in place.items():
        rates = 100 / (1 + np.exp(-draws[:, number])) if len(draws) else np.array([np.nan])
        found[name] = {
            "style_controlled_win_rate": float(100 / (1 + np.exp(-weights[number]))),
            "style_low": float(np.quantile(rates, 0.05)),
            "style_high": float(np.quantile(rates, 0.95)),
            "n_total": int(strength_NM[:, number].sum()),
            **dict(zip((f"style_{key}" for key in FEATURES), map(float, weights[len(models) :]), strict=True)),
        }
    return found


def style_differences(rows: Sequence[Mapping[str, Any]], count: Callable[[str], int] = len) -> Array:
    """(N, F) features of each battle, scaled over all of them; a feature that never differs is 0.

    Length: (model - baseline) / (model + baseline). Markdown: densities d = marks / length, outside of code blocks, as
    (d_model - d_baseline) / (d_model + d_baseline + 1).
    """
    model_NF, base_NF = (np.array([_style(row[key], count) for row in rows]) for key in ("output_2", "output_1"))
    total_N = np.maximum(model_NF[:, 0] + base_NF[:, 0], 1)
    features_NF = np.empty_like(model_NF)
    features_NF[:, 0] = (model_NF[:, 0] - base_NF[:, 0]) / total_N
    features_NF[:, 1:] = (model_NF[:, 1:] - base_NF[:, 1:]) / (model_NF[:, 1:] + base_NF[:, 1:] + 1)
    spread_F = features_NF.std(axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(FEATURES))
    centred_NF = features_NF - features_NF.mean(axis=0)
    return np.asarray(centred_NF / np.where(spread_F > 0, spread_F, 1.0), dtype=np.float64)


def _style(answer: str, count: Callable[[str], int]) -> list[float]:
    """Length, and headers, lists and bold passages per unit of length."""
    length, text = count(answer), answer
    for block in _CODE.findall(answer):
        text = text.replace(block, "")
    marks = [sum(len(re.findall(mark, text, re.MULTILINE)) for mark in kind) for kind in _MARKS]
    return [float(length), *(number / max(length, 1) for number in marks)]


def _bootstrap(design: Array, outcomes_N: Array, rounds: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(len(outcomes_N), size=len(outcomes_N)) for _ in range(rounds))
    return np.array([_fit(design[rows], outcomes_N[rows]) for rows in drawn])


def _fit_finite(design: Array, outcomes_N: Array, models: int) -> tuple[Array, Array]:
    """Weights, NaN for features without a finite one, and 1 for each column that was kept."""
    kept = np.ones(design.shape[1])
    while True:
        weights = _fit(design * kept, outcomes_N)
        reach = np.abs(design * kept * weights).max(axis=0)  # log-odds that a column adds at most
        if reach[:models].max() >= _LARGEST / 2 and reach[models:].max() < _LARGEST / 2:
            raise ValueError("annotations: a model wins or loses every battle; no finite rate fits")
        if reach.max() < _LARGEST / 2:
            return np.where(kept > 0, weights, np.nan), kept
        kept[models + int(np.argmax(reach[models:]))] = 0.0


def _fit(design: Array, outcomes_N: Array) -> Array:
    """Maximum likelihood of a logistic model with soft outcomes, by Newton's method from 0 (the problem is convex)."""
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        chance_N = 1 / (1 + np.exp(-np.clip(design @ weights, -_LARGEST, _LARGEST)))
        gradient = design.T @ (outcomes_N - chance_N)
        curvature = design.T @ (design * (chance_N * (1 - chance_N))[:, None])
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]  # a feature that never differs keeps weight 0
        weights = np.clip(weights + step, -_LARGEST, _LARGEST)
        if np.abs(step).max() < 1e-10:
            break
    return weights
