"""Which runs may stand in one table: settings as labels, and the split into parts that differ in nothing unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.runs import Runs, content_settings

# Groups of settings with a name; in a table each stands as one label.
SECTIONS = ("model", "dataset", "eval_set", "noise", "judge")
# How much compute a noise that forwards an example twice may spend: it says something of noises alone.
BUDGET = "train.budget"
BASELINE = "none"
UNSET = "unset"


@dataclass(frozen=True)
class Part:
    """Runs that differ only in the shown settings and the seed, and what they share, by name."""

    settings: pd.DataFrame
    shared: dict[str, str]

    @property
    def finished(self) -> bool:
        """At least one run has a result."""
        return bool((self.settings["status"] == "finished").any())

    @property
    def title(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.shared.items())


def settings_of(runs: Runs) -> pd.DataFrame:
    """Every setting that decides a result, as text: one row per finished, diverged or failed run.

    Indexed by run_id; columns: dotted keys, the SECTIONS as labels, and status. A key that a run's config does not
    have is "unset". alpha is empty without noise.
    """
    records = [*runs.records, *runs.without_result]
    flat = [{key: str(value) for key, value in content_settings(run.config).items()} for run in records]
    settings = pd.DataFrame(flat, index=pd.Index([run.run_id for run in records], name="run_id"))
    settings = settings.fillna(UNSET).assign(status=[run.status for run in records])
    labels = {section: section_labels(settings, section) for section in SECTIONS}
    without_alpha = settings["noise.distribution"].isin(["none", "dropout"])
    return settings.assign(**labels, alpha=settings["alpha"].mask(without_alpha, ""))


def section_labels(settings: pd.DataFrame, section: str) -> pd.Series:
    """The section's name; where runs share it and differ in a key, the differing keys are added.

    A noise with another budget than equal steps always says so.
    """
    name = f"{section}.name"
    inside = settings.filter(regex=rf"^{section}[.]")
    if section == "noise" and BUDGET in settings:
        inside = inside.assign(budget=settings[BUDGET].replace("equal_steps", UNSET))
    labels = inside[name].copy()
    for _, members in inside.groupby(name):
        differing = [str(key) for key in members if members[key].nunique() > 1 or key == "budget"]
        keys = [key.removeprefix(f"{section}.") for key in differing]
        for run_id, values in zip(members.index, members[differing].itertuples(index=False), strict=True):
            said = ", ".join(f"{k}={v}" for k, v in zip(keys, values, strict=True) if v != UNSET)
            labels[run_id] += f" ({said})" if said else ""
    return labels


def split(settings: pd.DataFrame, shown: Sequence[str]) -> list[Part]:
    """Parts of the runs, one for each combination of settings that `shown` leaves out.

    Raises:
        ValueError: a shown setting is not a setting of these runs.
    """
    unknown = [key for key in shown if key not in settings]
    if unknown:
        raise ValueError(f"{unknown[0]}: not a setting of these runs; name a key of config.yaml, like train.lr")
    every = [str(key) for key in settings]
    inside = {BUDGET, *(key for key in every if "." in key and key.split(".")[0] in SECTIONS)}
    named = [key for key in SECTIONS if key not in shown]
    free = [key for key in every if key not in {*inside, *shown, *SECTIONS, "seed", "status"}]
    keys = named + [key for key in free if settings[key].nunique() > 1]
    if not keys:
        return [Part(settings, {})]
    groups = settings.groupby(keys, sort=True)
    return [Part(part, dict(zip(keys, map(str, values), strict=True))) for values, part in groups]
