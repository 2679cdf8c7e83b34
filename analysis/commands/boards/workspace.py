"""A saved W&B workspace with this project's panels, runs grouped by noise and alpha.

The specification is built from the runs of a source, without a network: runs are grouped by noise, alpha and every
further setting in which they differ, so that a group's mean is a mean over seeds. Runs that are not finished, and
copies of a run, are filtered out as everywhere else. W&B cannot pair runs by seed and instruction: those differences
stand in a panel of text, as they were when the workspace was made.
"""

from __future__ import annotations

import re

import wandb
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from analysis.commands.boards.panels import MOST_RUNS, RESULTS, sections, shown
from analysis.sources.runs import Runs
from analysis.study.comparable import SECTIONS, settings_of

NAME = "Embedding noise"
_PINNED = (*RESULTS, "train/seconds")
# A section with more panels is closed at first: W&B draws what is open.
_MOST_OPEN = 12


def workspace(project: str, runs: Runs) -> ws.Workspace:
    """The workspace (wandb_workspaces) for these runs, not saved yet.

    Raises:
        ValueError: `project` is not entity/project, or no run is finished.
    """
    entity, name = place_of(project, runs)
    known = shown(runs)
    return ws.Workspace(
        entity=entity,
        project=name,
        name=NAME,
        sections=[
            ws.Section(name=title, panels=list(panels), is_open=len(panels) <= _MOST_OPEN)
            for title, panels in sections(project, runs)
            if panels
        ],
        settings=ws.WorkspaceSettings(max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=counted(runs),
            groupby=[expr.Config(key) for key in grouping(runs)],
            pinned_columns=[f"summary:{name}" for name in _PINNED if name in known],
        ),
    )


def place_of(project: str, runs: Runs) -> tuple[str, str]:
    """Entity and project.

    Raises:
        ValueError: `project` is not entity/project, or no run is finished.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", project):
        raise ValueError(f"dashboard {project}: expected entity/project, a project on W&B")
    if runs.runs.empty:
        raise ValueError("dashboard: no finished run, so there is nothing to choose panels by")
    entity, name = project.split("/")
    return entity, name


def counted(runs: Runs) -> expr.And:
    """The filter that leaves finished runs, each once."""
    copies = runs.excluded.loc[runs.excluded["status"] == "duplicate", "run_id"].tolist()
    once = [expr.Metric("ID").notin(copies)] if copies else []
    return expr.And(expr.Metric("State") == "finished", *once)


def specification(dashboard: ws.Workspace) -> str:
    """What would be saved, as JSON."""
    return str(dashboard._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)) + "\n"


def save(dashboard: ws.Workspace) -> str:
    """Create the workspace as a new view of the project; its address.

    Raises:
        ValueError: the server cannot be reached, or refuses.
    """
    try:
        return str(dashboard.save().url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise ValueError(f"dashboard {dashboard.entity}/{dashboard.project}: W&B answers: {error}") from error


def grouping(runs: Runs) -> list[str]:
    """noise, alpha, and the fewest further settings that leave nothing but seeds inside a group."""
    settings = settings_of(runs)
    settings = settings[settings["status"] == "finished"]
    names = [f"{section}.name" for section in SECTIONS]
    keys = ["noise.name", "alpha"]
    dotted = [str(key) for key in settings if key not in {*SECTIONS, *keys, "seed", "status"}]
    for key in (*(name for name in names if name in dotted), *sorted(set(dotted) - set(names))):
        if (settings.groupby(keys)[key].nunique() > 1).any():
            keys.append(key)
    return keys
