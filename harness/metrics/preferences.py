"""Win rates from AlpacaEval preferences: 1 reference wins, 2 model wins, 1.5 or 0 draw, None no verdict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def win_fractions(preferences: Sequence[Any] | npt.NDArray[Any]) -> Array:
    """The model's share of each verdict: preference - 1, in [0, 1].

    Args:
        preferences: (N,) numbers or None. 0 is the draw of older files and counts as 1.5.

    Returns:
        (N,) float64; NaN where there is no verdict (None, NaN) or it lies outside [1, 2].

    Raises:
        ValueError: an entry is neither a number nor None.
    """
    if isinstance(preferences, np.ndarray) and preferences.dtype == np.float64:
        values = preferences  # numbers already: one by one they would take a hundred times as long
    else:
        values = np.array([_number(row, entry) for row, entry in enumerate(preferences)], dtype=np.float64)
    values = np.where(values == 0, 1.5, values) - 1
    return np.where((values >= 0) & (values <= 1), values, np.nan)


def win_rate(preferences: Sequence[Any] | npt.NDArray[Any], lengths: Sequence[int] | None = None) -> dict[str, Any]:
    """The row of AlpacaEval's leaderboard that belongs to one model's verdicts.

    Args:
        preferences: (N,) as in `win_fractions`.
        lengths: (N,) characters of the model's outputs, if avg_length is wanted.

    Returns:
        win_rate, standard_error and discrete_win_rate in percent; n_wins, n_wins_base, n_draws, n_total in
        verdicts; n_dropped, the rows without a usable verdict; with lengths avg_length, whole characters
        over all N rows. standard_error is NaN for a single verdict.

    Raises:
        ValueError: no row has a verdict, an entry is not a number, or lengths do not match.

    Source: AlpacaEval 1 and 2, https://github.com/tatsu-lab/alpaca_eval. The discrete rate rounds each
    verdict to win, loss or draw. n_dropped is ours. The leaderboard's avg_length is taken over
    model_outputs.json, which in a few released files has more rows than annotations.json.
    """
    fractions = win_fractions(preferences)
    if np.isnan(fractions).all():
        raise ValueError(f"preferences: none of the {len(fractions)} rows has a verdict in [1, 2]")
    return _describe(fractions, None if lengths is None else _checked_lengths(lengths, len(fractions), "lengths"))


def win_rate_by_category(
    preferences: Sequence[Any] | npt.NDArray[Any],
    categories: Sequence[Hashable],
    lengths: Sequence[int] | None = None,
) -> dict[Any, dict[str, Any]]:
    """`win_rate` for each category, most frequent first (AlpacaEval: the five sources in the key `dataset`).

    A category without any verdict keeps its row, with n_total 0 and NaN rates.

    Raises:
        ValueError: categories or lengths do not match the preferences.
    """
    fractions = win_fractions(preferences)
    if len(categories) != len(fractions):
        raise ValueError(f"categories: {len(categories)} entries for {len(fractions)} preferences")
    checked = None if lengths is None else _checked_lengths(lengths, len(fractions), "lengths")
    rows: dict[Any, list[int]] = {}
    for row, category in enumerate(categories):
        rows.setdefault(category, []).append(row)
    largest_first = sorted(rows.items(), key=lambda item: -len(item[1]))
    return {
        category: _describe(fractions[members], None if checked is None else checked[members])
        for category, members in largest_first
    }


def length_matched_win_rate(
    preferences: Sequence[Any] | npt.NDArray[Any],
    lengths: Sequence[int],
    reference_lengths: Sequence[int],
    tolerance: float = 0.25,
) -> dict[str, Any]:
    """The plain win rate over the rows whose two answers are of about the same length.

    Args:
        preferences: (N,) as in `win_fractions`.
        lengths, reference_lengths: (N,) characters of the model's and of the reference's output.
        tolerance: a row counts if the shorter answer has at least (1 - tolerance) times the longer one's
            characters.

    Returns:
        The keys of `win_rate` over the matched rows (NaN rates and n_total 0 if there are none),
        n_matched, and matched_share in [0, 1] of the N rows. Nothing is extrapolated: the rows are a
        subset, so compare two models over the rows matched for both.

    Raises:
        ValueError: the arrays differ in length, or tolerance is outside [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, expected a share in [0, 1)")
    fractions = win_fractions(preferences)
    model = _checked_lengths(lengths, len(fractions), "lengths")
    reference = _checked_lengths(reference_lengths, len(fractions), "reference_lengths")
    matched = np.minimum(model, reference) >= (1 - tolerance) * np.maximum(model, reference)
    row = _describe(fractions[matched], model[matched])
    return {
        **row,
        "n_matched": int(matched.sum()),
        "matched_share": float(matched.mean()) if len(matched) else math.nan,
    }


def _describe(fractions: Array, lengths: Array | None) -> dict[str, Any]:
    """Every figure comes from one partition of the verdicts into wins, losses, draws and dropped rows."""
    known = fractions[~np.isnan(fractions)]
    wins, losses = known > 0.5, known < 0.5
    n = len(known)
    row: dict[str, Any] = {
        "win_rate": 100 * float(known.mean()) if n else math.nan,
        "standard_error": 100 * float(known.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        "n_wins": int(wins.sum()),
        "n_wins_base": int(losses.sum()),
        "n_draws": int(n - wins.sum() - losses.sum()),
        "n_total": n,
        "discrete_win_rate": 100 * float(np.where(wins, 1.0, np.where(losses, 0.0, 0.5)).mean()) if n else math.nan,
        "n_dropped": len(fractions) - n,
    }
    if lengths is not None:
        row["avg_length"] = int(lengths.mean()) if len(lengths) else math.nan
    return row


def _number(row: int, entry: Any) -> float:
    if entry is None:
        return math.nan
    if isinstance(entry, bool | np.bool_) or not isinstance(entry, Real):
        raise ValueError(f"preferences: row {row} is {entry!r}, expected a number or None")
    return float(entry)


def _checked_lengths(lengths: Sequence[int], rows: int, name: str) -> Array:
    if len(lengths) != rows:
        raise ValueError(f"{name}: {len(lengths)} entries for {rows} preferences")
    return np.asarray(lengths, dtype=np.float64)
