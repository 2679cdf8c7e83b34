"""Names of the figures of the probe `gradient_noise`: probe/gradient/MODEL/MEASURE/STRENGTH."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.study.measures import Measures

PREFIX = "probe/gradient"
MODELS = ("base", "trained")


def strengths(measures: Measures, run_ids: Sequence[str], which: str) -> list[str]:
    """The strengths that one of these runs measured of the model, in rising order."""
    prefix = f"{PREFIX}/{which}/odd_share/"
    found = {name.removeprefix(prefix) for name in measures.known(run_ids) if name.startswith(prefix)}
    return sorted((each for each in found if "/" not in each), key=float)
