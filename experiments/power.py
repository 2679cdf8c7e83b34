"""How many seeds a plan needs, by simulation of its verdicts: `python -m experiments.plan FOLDER`.

Differences are drawn with the scatter that the plan assumes, as many as it compares, and decided by the rule that the
study will use, Holm's correction included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis import stats
from analysis.stats import Array, Estimate
from analysis.study.verdicts import Comparison, decide

if TYPE_CHECKING:
    from experiments.plan import Plan, Scatter

# True effects, in margins: none, and one that matters.
EFFECTS = (0.0, 2.0)
_SEEDS = (3, 4, 5, 6, 8, 10, 12, 16, 20)


def decided(plan: Plan, studies: int) -> str:
    """A Markdown table: for each primary measure, the share of comparisons decided correctly, by number of seeds.

    Correct is "no effect beyond the margin" if there is none, "helps" or "hurts" if the effect is twice the margin.
    """
    lines = ["| seeds | measure | no effect: shown | twice the margin: shown |", "|---:|---|---:|---:|"]
    for seeds in sorted({*_SEEDS, plan.seeds}):
        shares = {effect: simulate(plan, seeds, effect, studies) for effect in EFFECTS}
        mark = " (plan)" if seeds == plan.seeds else ""
        for name in plan.verdicts.primary:
            lines.append(f"| {seeds}{mark} | {name} | {shares[0.0][name]:.0%} | {shares[2.0][name]:.0%} |")
    return "\n".join(lines)


def simulate(plan: Plan, seeds: int, effect: float, studies: int) -> dict[str, float]:
    """Share of the comparisons of each primary measure that are decided rightly, where all have this effect in margins.

    Args:
        effect: 0: rightly is "no effect beyond the margin"; else a difference that is told.
    """
    generator = np.random.default_rng([seeds, round(10 * effect)])
    right = dict.fromkeys(plan.verdicts.primary, 0)
    for _ in range(studies):
        names = [name for name in plan.verdicts.primary for _ in range(plan.comparisons)]
        margins = [plan.verdicts.primary[name] for name in names]
        found = [
            _difference(generator, plan.scatter[name], effect * margin.absolute(plan.scatter[name].control), seeds)
            for name, margin in zip(names, margins, strict=True)
        ]
        tested = stats.with_shared_scatter(found, names)
        comparisons = [
            Comparison(name, each, plan.scatter[name].control, margin)
            for name, each, margin in zip(names, tested, margins, strict=True)
        ]
        for name, decision in zip(names, decide(comparisons), strict=True):
            right[name] += decision.differs if effect else decision.is_equivalent
    return {name: count / studies / plan.comparisons for name, count in right.items()}


def _difference(generator: np.random.Generator, scatter: Scatter, effect: float, seeds: int) -> Estimate:
    if not scatter.units:
        return stats.mean_over_seeds(effect + generator.normal(0, scatter.seed, seeds))
    return stats.mean_over_seeds_and_instructions(effect + draw(generator, scatter, seeds))


def draw(generator: np.random.Generator, scatter: Scatter, seeds: int) -> Array:
    """A difference without effect, (S, I): each seed's shift, each item's, and the rest."""
    of_seeds_S = generator.normal(0, scatter.seed, seeds)
    of_items_I = generator.normal(0, scatter.item, scatter.units)
    return of_seeds_S[:, None] + of_items_I + generator.normal(0, scatter.rest, (seeds, scatter.units))
