"""Which runs may share a table: settings as labels, and the split into comparable parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.sources.runs import Runs
from analysis.sources.select import content_settings
from analysis.suggest import hint
from harness.record.no_result import LAYOUT_OF_LENGTH

# Groups of settings with a name; in a table each is one label.
SECTIONS = ("model", "dataset", "eval_set", "noise", "judge")
# Groups whose settings matter only after training.
_OF_NO_TRAINING = ("judge", "probe")
# How much compute a noise that forwards examples twice may spend; it only matters for such noises.
BUDGET = "train.budget"
BASELINE = "none"
UNSET = "unset"
_LAYOUT = "train.layout"
# Longest title, longest value in a shortened one, and number of settings that it names.
_LONG_TITLE, _LONG_VALUE, _MOST_SETTINGS = 250, 40, 8


@dataclass(frozen=True)
class Comparable:
    """Runs that may share a table: they differ only in the shown settings and the seed.

    settings: from `settings_of`. shared: settings that the runs have in common, by name. number: its number.
    """

    settings: pd.DataFrame
    shared: dict[str, str]
    number: int = 1

    @property
    def finished(self) -> bool:
        """Whether at least one run has a result."""
        return bool((self.settings["status"] == "finished").any())

    @property
    def in_full(self) -> str:
        """Every shared setting."""
        return ", ".join(f"{key}={value or 'none'}" for key, value in self.shared.items())

    @property
    def title(self) -> str:
        """The shared settings; if there are very many, the first ones and the number of this part."""
        if len(self.in_full) <= _LONG_TITLE:
            return self.in_full
        first = [f"{key}={_cut(value or 'none', _LONG_VALUE)}" for key, value in self.shared.items()][:_MOST_SETTINGS]
        return f"{', '.join(first)}, and more: set {self.number}"


def _cut(value: str, most: int) -> str:
    """The text cut to this many characters, ending in … if cut."""
    return value if len(value) <= most else f"{value[: most - 1]}…"


def settings_of(runs: Runs) -> pd.DataFrame:
    """Every setting that decides a result, as text: one row per finished, diverged or failed run.

    Indexed by run_id; columns: dotted keys, the SECTIONS as labels, and status. A key that a run's config does not
    have is "unset", and so is a section without a name. alpha is empty without noise.

    Raises:
        ValueError: a run has no alpha or no seed.
    """
    records = [*runs.records, *runs.without_result]
    flat = [{key: str(value) for key, value in content_settings(run.config).items()} for run in records]
    for run, found in zip(records, flat, strict=True):
        if missing := [key for key in ("alpha", "seed") if key not in found]:
            raise ValueError(f"{run.origin}: its config has no {missing[0]}, so that it has no place in a table")
    columns = dict.fromkeys([*(key for found in flat for key in found), *(f"{name}.name" for name in SECTIONS)])
    names = [*columns, *{"noise.distribution"} - {*columns}]
    settings = pd.DataFrame(flat, [run.run_id for run in records], names, dtype=object)
    settings = _without_implied_layout(settings.fillna(UNSET).rename_axis("run_id"))
    settings = settings.assign(status=[run.status for run in records])
    labels = {section: section_labels(settings, section) for section in SECTIONS}
    without_alpha = settings["noise.distribution"].isin(["none", "dropout"])
    return settings.assign(**labels, alpha=settings["alpha"].mask(without_alpha, ""))


def _without_implied_layout(settings: pd.DataFrame) -> pd.DataFrame:
    """Ignore a layout that noise.length implies: it is part of that noise, not a reason for a separate table.

    So runs of such a noise share a table with those that left train.layout at auto, like their baseline.
    """
    if _LAYOUT not in settings or "noise.length" not in settings:
        return settings

    layout = settings[_LAYOUT]
    implied = layout == settings["noise.length"].map(LAYOUT_OF_LENGTH)
    others = set(layout[~implied])
    free = implied & ~layout.isin(others)
    return settings.assign(**{_LAYOUT: layout.mask(free, "auto")}) if "auto" in others else settings


def section_labels(settings: pd.DataFrame, section: str) -> pd.Series:
    """The section's name; if runs share it and differ in a key, the differing keys are added.

    A noise with a budget other than equal steps always says so.
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


def plain_name(label: str) -> str:
    """A section's label without its details: "neftune" of "neftune (length=padded)"."""
    return label.partition(" (")[0]


def split(settings: pd.DataFrame, shown: Sequence[str]) -> list[Comparable]:
    """Parts of the runs, one for each combination of settings that `shown` leaves out.

    Raises:
        ValueError: a shown setting does not exist in these runs.
    """
    unknown = [key for key in shown if key not in settings]
    if unknown:
        meant = hint(unknown[0], map(str, settings)) or "; name a key of config.yaml, like train.lr"
        raise ValueError(f"{unknown[0]}: not a setting of these runs{meant}")
    every = [str(key) for key in settings]
    inside = {BUDGET, *(key for key in every if "." in key and key.split(".")[0] in SECTIONS)}
    named = [key for key in SECTIONS if key not in shown]
    free = [key for key in every if key not in {*inside, *shown, *SECTIONS, "seed", "status"}]
    keys = named + [key for key in free if settings[key].nunique() > 1]
    if not keys:
        return [Comparable(settings, {})]
    groups = settings.groupby(keys, sort=True)
    found = [(part, dict(zip(keys, map(str, values), strict=True))) for values, part in groups]
    return [
        Comparable(_with_diverged(part, shared, settings), shared, number)
        for number, (part, shared) in enumerate(found, 1)
    ]


def _with_diverged(part: pd.DataFrame, shared: dict[str, str], settings: pd.DataFrame) -> pd.DataFrame:
    """The part with diverged trainings recorded under another judge: nobody was asked, so they count under each."""
    judge = {key: value for key, value in shared.items() if key in _OF_NO_TRAINING}
    if not judge or not (part["status"] == "finished").any():
        return part
    others = settings[(settings["status"] == "diverged") & ~settings.index.isin(part.index)]
    alike = [(others[key].astype(str) == value) for key, value in shared.items() if key not in judge]
    others = others[np.logical_and.reduce(alike)] if alike else others
    here = {*zip(part["noise"], part["alpha"], part["seed"], strict=True)}
    new = [key not in here for key in zip(others["noise"], others["alpha"], others["seed"], strict=True)]
    return pd.concat([part, others[new].assign(**judge)]) if any(new) else part
