"""AlpacaEval 2.0's length-controlled win rate, with the regularisation it hangs on shown instead of hidden.

Shapes: N rows of the fit (gamed baselines first, then the model's), F = 3 features (length, difficulty,
model), K folds, G values of C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.metrics.difficulty import load_difficulty, load_gamed
from harness.metrics.preferences import win_fractions, win_rate

Array = npt.NDArray[np.float64]

GRID = tuple(float(value) for value in np.logspace(-4, 4, 10))
"""The values of C that upstream tries: inverse strength of the L1 penalty."""

FOLDS = 5
GAMED_WEIGHT = 0.1
CLOSE = 5e-4
"""Nats. Each of 107 released files was published with a C whose held-out loss lies this close to our best."""

_SMALL_SORT = 16  # numpy's quicksort hands pieces of up to this many elements to an insertion sort


class _Fit(NamedTuple):
    features: Array  # (N, F)
    targets: Array  # (N,) share of the verdict
    weights: Array  # (N,)


def length_controlled_win_rate(
    annotations: Sequence[Mapping[str, Any]] | pd.DataFrame,
    difficulty: Mapping[str, float] | pd.DataFrame | str | Path,
    gamed: pd.DataFrame | str | Path,
    C: float | None = None,
) -> dict[str, Any]:
    """The win rate that a logistic model predicts if both answers were of the same length.

    P(model wins) = sigmoid(w1 tanh(delta / sd(delta)) + w2 difficulty + w3), delta = characters of
    output_1 (the reference) - characters of output_2 (the model), sd with ddof 1, fitted with an L1
    penalty on the model's rows (weight 1) and the gamed-baseline rows (weight 0.1, without w3); the result
    is the mean of sigmoid(w2 difficulty + w3) over the model's rows.

    Args:
        annotations: one model's rows against one reference: instruction, output_1, output_2, preference;
            where there, annotator, generator_1 and generator_2 must be the same in all rows.
        difficulty: by instruction, or a table by position among AlpacaEval's 805: see `load_difficulty`.
        gamed: AlpacaEval's df_gamed.csv, or the table itself: see `load_gamed`.
        C: inverse strength of the L1 penalty; None takes the value of GRID with the best held-out log-loss.

    Returns:
        Everything of `win_rate`; length_controlled_winrate in percent; lc_standard_error in points, as
        upstream over the fitted predictions, so without the uncertainty of the fit; C, and C_is_given;
        by_C, a list with C, length_controlled_winrate and cv_log_loss (nats) for each value of GRID;
        lc_low and lc_high, the least and greatest rate over the C that the data cannot tell apart from the
        best (within CLOSE); n_instructions; length_weight, difficulty_weight and model_weight (w1, w2,
        w3). A model against itself has 50 by definition; the fit is left out, C is None and by_C empty.

    Raises:
        ValueError: a key is missing or mixed, an instruction is given twice or has no difficulty, C is not
            positive, or all length differences are equal.
        ImportError: scikit-learn is not installed.

    Source: Dubois et al. 2404.04475, and alpaca_eval's metrics/glm_winrate.py, which settles what the
    paper leaves open. Deviates in one thing: upstream looks the difficulty up by row number, so that in
    files with fewer than 805 rows (six of the released ones) every row after the first gap gets another
    instruction's; here it is the instruction's own. To repeat those published figures pass a mapping made
    by row number.
    """
    rows = _checked_rows(annotations)
    summary = {**win_rate(rows["preference"].tolist()), "n_instructions": len(rows)}
    if {"generator_1", "generator_2"} <= set(rows) and (rows["generator_1"] == rows["generator_2"]).all():
        own = {"length_controlled_winrate": 50.0, "lc_standard_error": 0.0, "lc_low": 50.0, "lc_high": 50.0}
        return {**summary, **own, "C": None, "C_is_given": False, "by_C": []}
    if C is not None and not (math.isfinite(C) and C > 0):
        raise ValueError(f"C is {C}, expected a positive number")
    data, model_NF = _design(rows, difficulty, load_gamed(gamed))
    losses_G = _held_out_losses(data)
    rates_G = [100 * float(_predict(model_NF, _weights(data, value)).mean()) for value in GRID]
    chosen = GRID[int(np.argmin(losses_G))] if C is None else float(C)
    weights_F = _weights(data, chosen)
    predicted = _predict(model_NF, weights_F)
    close = [rate for rate, loss in zip(rates_G, losses_G, strict=True) if loss <= min(losses_G) + CLOSE]
    return {
        **summary,
        "length_controlled_winrate": 100 * float(predicted.mean()),
        "lc_standard_error": 100 * float(predicted.std(ddof=1)) / math.sqrt(len(predicted)),
        "lc_low": min(close),
        "lc_high": max(close),
        "C": chosen,
        "C_is_given": C is not None,
        "by_C": [
            {"C": value, "length_controlled_winrate": rate, "cv_log_loss": loss}
            for value, rate, loss in zip(GRID, rates_G, losses_G, strict=True)
        ],
        **dict(zip(("length_weight", "difficulty_weight", "model_weight"), weights_F.tolist(), strict=True)),
    }


def _checked_rows(annotations: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    if isinstance(annotations, pd.DataFrame):
        rows = annotations.reset_index(drop=True)
    else:
        rows = pd.DataFrame(list(annotations), dtype=object)
    for key in ("preference", "instruction", "output_1", "output_2"):
        if key not in rows:
            raise ValueError(f"annotations: key {key!r} is missing")
        for row, value in enumerate(rows[key]):
            if key != "preference" and not isinstance(value, str):
                raise ValueError(f"annotations: row {row}: {key} is {value!r}, expected text")
    for key in ("annotator", "generator_1", "generator_2"):
        if key in rows and rows[key].nunique(dropna=False) > 1:
            raise ValueError(f"annotations: {key} has several values, expected one: {sorted(map(str, set(rows[key])))}")
    if len(rows) < 2:
        raise ValueError(f"annotations: {len(rows)} rows, expected at least 2")
    return rows.astype({"preference": object})


def _design(
    rows: pd.DataFrame, difficulty: Mapping[str, float] | pd.DataFrame | str | Path, gamed: pd.DataFrame
) -> tuple[_Fit, Array]:
    """The data of the fit, and the model's features with the length difference set to zero."""
    instructions = rows["instruction"].tolist()
    by_instruction = load_difficulty(difficulty, instructions)
    difficulties = np.array([by_instruction[instruction] for instruction in instructions])
    delta = np.array(
        [len(first) - len(second) for first, second in zip(rows["output_1"], rows["output_2"], strict=True)]
    )
    spread = delta.std(ddof=1)
    if spread == 0:
        raise ValueError(f"annotations: output_1 and output_2 differ by {delta[0]} characters in every row")
    ones = np.ones(len(rows))
    model_NF = np.column_stack([np.tanh(delta / spread), difficulties, ones])
    gamed_NF = np.column_stack([np.tanh(gamed["std_delta_len"]), gamed["instruction_difficulty"], np.zeros(len(gamed))])
    targets = np.concatenate([gamed["preference"], win_fractions(rows["preference"].tolist())])
    weights = np.concatenate([np.full(len(gamed), GAMED_WEIGHT), ones])
    known = ~np.isnan(targets)
    data = _Fit(np.concatenate([gamed_NF, model_NF])[known], targets[known], weights[known])
    return data, model_NF * np.array([0.0, 1.0, 1.0])


def _weights(data: _Fit, C: float) -> Array:
    """(F,) coefficients; each row enters once as a win and once as a loss, weighted by its target.

    Upstream's solver, tolerance and seed are part of the published digits: a fit to full precision differs
    from them by about 0.001 points.
    """
    from sklearn import __version__
    from sklearn.linear_model import LogisticRegression

    release = tuple(int(part) for part in __version__.split(".")[:2])
    lasso: dict[str, Any] = {"l1_ratio": 1.0} if release >= (1, 8) else {"penalty": "l1"}
    model = LogisticRegression(**lasso, C=C, solver="liblinear", fit_intercept=False, random_state=123, tol=1e-4)
    labels = np.repeat([1, 0], len(data.targets))
    share_2N = np.concatenate([data.targets, 1 - data.targets]) * np.tile(data.weights, 2)
    model.fit(np.tile(data.features, (2, 1)), labels, sample_weight=share_2N)
    return np.asarray(model.coef_[0], dtype=np.float64)


def _predict(features_NF: Array, weights_F: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-(features_NF @ weights_F))), dtype=np.float64)


def _held_out_losses(data: _Fit) -> list[float]:
    """Weighted log-loss in nats on the held-out rows, mean over the folds, for each value of GRID."""
    folds_N = _folds(len(data.targets))
    losses_KG = [
        [_log_loss(data, folds_N == fold, _weights(_Fit(*(part[folds_N != fold] for part in data)), C)) for C in GRID]
        for fold in range(FOLDS)
    ]
    return [float(loss) for loss in np.mean(losses_KG, axis=0)]


def _log_loss(data: _Fit, held_out: npt.NDArray[np.bool_], weights_F: Array) -> float:
    probability = np.clip(_predict(data.features[held_out], weights_F), 1e-15, 1 - 1e-15)
    target = data.targets[held_out]
    loss = -(target * np.log(probability) + (1 - target) * np.log1p(-probability))
    return float(np.mean(loss * data.weights[held_out]))


def _folds(rows: int) -> npt.NDArray[np.int64]:
    """(N,) fold of each row, as scikit-learn's GroupKFold deals out groups of equal size.

    It deals them in the order of numpy's argsort of equal numbers, which depends on the processor. The
    published C belong to the order of processors without AVX-512: with it the choice agrees for 90 of 107
    released files, with the order on AVX-512 for 72 (the rest is the reconstructed gamed table, whose
    single rows are synthetic).
    """
    order = _order_of_ties(list(range(rows)))[::-1]
    folds_N = np.empty(rows, dtype=np.int64)
    folds_N[order] = np.arange(rows) % FOLDS
    return folds_N


def _order_of_ties(items: list[int]) -> list[int]:
    """Where median-of-3 quicksort leaves equal items: each partition reverses what it passes over."""
    if len(items) <= _SMALL_SORT:
        return items
    middle, last = (len(items) - 1) // 2, len(items) - 2
    items = items.copy()
    items[middle], items[last] = items[last], items[middle]
    items[1:last] = items[1:last][::-1]
    pivot = 1 + (len(items) - 3) // 2
    items[pivot], items[last] = items[last], items[pivot]
    return [*_order_of_ties(items[:pivot]), items[pivot], *_order_of_ties(items[pivot + 1 :])]
