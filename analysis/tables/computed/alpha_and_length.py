"""What a curve leaves to the reader's eye, as tables: how flat quality is in alpha, how much of a gain is length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from analysis import stats
from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Array, Estimate
from analysis.study.comparable import BASELINE, settings_of, split
from analysis.study.measures import Measures
from analysis.study.metrics import LENGTH, WIN_RATE, metric
from analysis.study.published import of_tables
from analysis.study.rows import Row, RowKeys, rows_of

NOTHING = "these runs have nothing to compare"
_KEYS = RowKeys()
_QUALITIES = (WIN_RATE, "heldout/loss")
_CLASSES = ("shorter", "similar", "longer")


def flatness(runs: Runs) -> list[Table]:
    """For each noise and measure of quality: its best and worst alpha, and those not shown to be worse than the best.

    An alpha is worse where the 95% interval of its difference to the best, paired by seed (for win rates also by
    instruction), is all on the worse side.

    Raises:
        ValueError: there is no finished run.
    """
    texts = ("measure", "alphas", "best alpha", "worst alpha", "not shown to be worse than the best")
    heads = [Column(header, is_text=True) for header in texts]
    note = (
        "compared by the 95% interval of the paired difference to the best, without a correction; the best is chosen on"
        " these very numbers, so that it looks better than it is and the list is rather too short than too long"
    )
    return per_study(runs, Table("flatness", "How flat is it in alpha?", ["noise"], heads, [], [note]), _flat_rows)


def length_gain(runs: Runs) -> list[Table]:
    """For each noise and alpha the difference in win rate to no noise, split into length and the rest.

    Answers are shorter than, similar to or longer than the reference (as in the table length_bias). What the move
    between these classes alone would have changed is "by length", the change within them "at equal length"; each is
    weighted with the mean of both runs, so that the two add up (Kitagawa's decomposition). Runs are paired by seed.

    Raises:
        ValueError: there is no finished run.
    """
    heads = [
        Column("runs"),
        Column("length - none", "characters", 1, signed=True),
        Column("win rate - none", "points", 1, signed=True),
        Column("of it by length", "points", 1, signed=True),
        Column("of it at equal length", "points", 1, signed=True),
    ]
    notes = [
        "by length: what the move between answers shorter than, similar to and longer than the reference would change"
        " by itself; at equal length: the change within these three classes, which are coarse. It proves no cause",
        "± half of a 95% t interval over seeds",
    ]
    title = "How much of the gain is length?"
    return per_study(runs, Table("length_gain", title, ["noise", "alpha"], heads, [], notes), _gain_rows)


# Makes the rows of a table from the rows (noise, alpha) of one set of comparable runs.
RowsFor = Callable[[Measures, list[Row]], Iterator[tuple[list[str], list[Value]]]]


def per_study(runs: Runs, empty: Table, rows_for: RowsFor) -> list[Table]:
    """One table for each set of runs that may be compared; one without rows where there is nothing to say."""
    if runs.runs.empty:
        raise ValueError(f"no finished run for the table {empty.name}")
    measures, found = Measures(runs), []
    for part in split(settings_of(runs), _KEYS.rows):
        rows = list(rows_for(measures, rows_of(_KEYS, part, of_tables(()), measures)))
        if rows:
            found.append(replace(empty, title=f"{empty.title} ({part.title})", rows=rows))
    blank: list[Value] = [""] * len(empty.columns)
    nothing = replace(empty, rows=[(["none"] * len(empty.labels), blank)], notes=[NOTHING])
    return found or [nothing]


def _flat_rows(measures: Measures, rows: list[Row]) -> Iterator[tuple[list[str], list[Value]]]:
    cells = [(row.labels["noise"], row.labels["alpha"], row.cell("").by_seed) for row in rows if row.labels["alpha"]]
    for noise in dict.fromkeys(noise for noise, _, _ in cells):
        ours = {alpha: by_seed for name, alpha, by_seed in cells if name == noise and by_seed}
        for name in _QUALITIES if len(ours) > 1 else ():
            means = {
                alpha: float(measures.of_runs(name, [*by_seed.values()]).mean()) for alpha, by_seed in ours.items()
            }
            if not any(np.isnan(mean) for mean in means.values()):
                yield [noise], [metric(name).header, ", ".join(ours), *_flat_cells(measures, name, ours, means)]


def _flat_cells(
    measures: Measures, name: str, ours: dict[str, dict[str, str]], means: dict[str, float]
) -> tuple[str, str, str]:
    known = metric(name)
    sign = 1 if known.better == "higher" else -1
    ranked = sorted(means, key=lambda alpha: -sign * means[alpha])
    best, worst = (f"{alpha} ({means[alpha]:.{known.decimals}f})" for alpha in (ranked[0], ranked[-1]))
    worse = [alpha for alpha in ranked[1:] if _is_worse(measures, name, ours[alpha], ours[ranked[0]], sign)]
    return best, worst, ", ".join(alpha for alpha in ours if alpha not in worse)


def _is_worse(measures: Measures, name: str, ours: dict[str, str], best: dict[str, str], sign: int) -> bool:
    seeds = [seed for seed in ours if seed in best]
    found = measures.difference(name, [ours[seed] for seed in seeds], [best[seed] for seed in seeds]) if seeds else None
    if not isinstance(found, Estimate) or np.isnan(found.low):
        return False
    return found.high < 0 if sign > 0 else found.low > 0


def _gain_rows(measures: Measures, rows: list[Row]) -> Iterator[tuple[list[str], list[Value]]]:
    base = next((row.cell("").by_seed for row in rows if row.labels["noise"] == BASELINE), {})
    for row in rows:
        cell = row.cell("").by_seed
        seeds = [seed for seed in cell if seed in base] if row.labels["noise"] != BASELINE else []
        ours, theirs = [cell[seed] for seed in seeds], [base[seed] for seed in seeds]
        parts = _parts(measures, ours, theirs) if seeds else None
        if parts is not None:
            length = measures.difference(LENGTH, ours, theirs)
            gains = [stats.mean_over_seeds(values_S) for values_S in (parts[0] + parts[1], *parts)]
            yield list(row.labels.values()), [f"{len(seeds)}", length, *gains]


def _parts(measures: Measures, ours: Sequence[str], theirs: Sequence[str]) -> tuple[Array, Array] | None:
    """The difference in win rate of each seed (S,), in points: by length and at equal length; None without verdicts."""
    share, rate = (_by_class(measures, f"length/{what}", ours) for what in ("share", "win_rate"))
    base_share, base_rate = (_by_class(measures, f"length/{what}", theirs) for what in ("share", "win_rate"))
    if np.isnan(share).any() or np.isnan(base_share).any():
        return None
    # A class that one of the two has no answer in: the other's rate stands for both, so that the move counts as length.
    rate, base_rate = np.where(np.isnan(rate), base_rate, rate), np.where(np.isnan(base_rate), rate, base_rate)
    rate, base_rate = np.nan_to_num(rate), np.nan_to_num(base_rate)
    by_length = ((share - base_share) / 100 * (rate + base_rate) / 2).sum(axis=0)
    equal_length = ((share + base_share) / 200 * (rate - base_rate)).sum(axis=0)
    return by_length, equal_length


def _by_class(measures: Measures, name: str, run_ids: Sequence[str]) -> Array:
    """A derived metric of each class of lengths (3, S)."""
    return np.array([measures.of_runs(f"{name}_{each}", run_ids) for each in _CLASSES])
