"""What the page opens with: what was compared, and what was found of each noise in a sentence with its interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from analysis.sources.runs import Runs
from analysis.study.finding import Finding, findings, without_baseline

_MOST = 12  # findings that open the page; a study of many settings has more, and those are folded
_WIDTH, _HEIGHT, _EDGE = 240, 20, 6  # of the drawn interval, in its own units


@dataclass(frozen=True)
class Opening:
    """One noise's sentence, its name apart; strip: its interval as a picture, on the same scale as its neighbours'."""

    noise: str
    sentence: str
    is_shown: bool
    strip: Markup


def openings(runs: Runs) -> tuple[list[Opening], list[Opening]]:
    """The findings that open the page, and those that are folded."""
    found = findings(runs)
    reach = max((abs(bound) for each in found for bound in _bounds(each)), default=0.0)
    every = [
        Opening(each.noise, str(each).removeprefix(each.noise), each.is_shown, _strip(each, reach)) for each in found
    ]
    return every[:_MOST], every[_MOST:]


def without_finding(runs: Runs) -> str:
    """Why there is no finding."""
    if without_baseline(runs):
        return "No finding: no finished run is without noise. Add noise=none to the sweep, with the same seeds."
    return "No finding: no noise was compared with training without noise on the same seeds and instructions."


def compared(runs: Runs) -> str:
    """ "tiny_base on builtin, judged by reference, 1,050 instructions": what all runs share, or how many there are."""
    frame = runs.runs
    items = runs.preferences.groupby("run_id").size()
    said = f"{_one_of(frame['model'], 'models')} on {_one_of(frame['dataset'], 'data sets')}"
    if len(items):
        said += f", judged by {_one_of(frame['judge'], 'judges')}, {items.max():,} instructions"
    return said


def _one_of(values: Iterable[object], many: str) -> str:
    names = sorted({str(value) for value in values if value is not None and value == value})
    return names[0] if len(names) == 1 else f"{len(names)} {many}"


def _bounds(finding: Finding) -> list[float]:
    known = (finding.difference.low, finding.difference.high)
    return [] if np.isnan(known).any() else [float(bound) for bound in known]


def _strip(finding: Finding, reach: float) -> Markup:
    """The interval around its mean beside zero, dotted where it is of one run; nothing where there is none."""
    bounds = _bounds(finding)
    if not bounds or not reach:
        return Markup("")
    low, high, mean, zero = (_place(value, reach) for value in (*bounds, finding.difference.mean, 0.0))
    middle = _HEIGHT / 2
    filled = "currentColor" if finding.is_shown else "var(--paper)"
    dotted = ' stroke-dasharray="2 3"' if finding.difference.runs == 1 else ""
    return Markup(
        f'<svg class="strip" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f'<path d="M{zero:.1f} 0V{_HEIGHT}" stroke="var(--soft)" stroke-dasharray="2 2"/>'
        f'<path d="M{low:.1f} {middle:g}H{high:.1f}" stroke="currentColor" stroke-width="2"{dotted}/>'
        f'<circle cx="{mean:.1f}" cy="{middle:g}" r="4" fill="{filled}" stroke="currentColor" stroke-width="2"/></svg>'
    )


def _place(value: float, reach: float) -> float:
    return _WIDTH / 2 + value / reach * (_WIDTH / 2 - _EDGE)
