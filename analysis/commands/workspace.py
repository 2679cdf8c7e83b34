"""A saved W&B workspace with this project's panels, runs grouped by noise and alpha.

The specification is built from the runs of a source, without a network: a panel is included only if a run has its
metric, and runs are grouped by noise, alpha and every other setting in which they differ, so that a group's mean is a
mean over seeds. Unfinished runs and copies of a run are filtered out as everywhere else. W&B cannot pair runs by seed
and instruction: those differences are in a text panel, as of when the workspace was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import wandb
import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from analysis.render.formats import render
from analysis.sources.runs import Runs
from analysis.sources.wandb_rows import CONFIG_KEY, FINAL_PREFIX
from analysis.study.comparable import SECTIONS, settings_of
from analysis.study.metrics import CONTROLLED, LENGTH, WIN_RATE, metric
from analysis.tables.build import build
from analysis.tables.layouts import LAYOUTS

NAME = "Embedding noise"
_CATEGORY = "judge/win_rate/"
_CURVES = ("train/grad_norm", "train/lr", "noise/alpha")
_RESULTS = (WIN_RATE, CONTROLLED, LENGTH, "judge/accuracy", "heldout/loss", "train/seconds")
# A run has hundreds of probes: only those in these tables get panels.
_PROBES = ("probes", "overfitting")
_MOST_RUNS = 100
# A section with more panels starts collapsed, because W&B draws all open ones.
_MOST_OPEN = 12


def workspace(project: str, runs: Runs) -> ws.Workspace:
    """The workspace (wandb_workspaces) for these runs, not saved yet.

    Raises:
        ValueError: `project` is not entity/project, or no run is finished.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", project):
        raise ValueError(f"dashboard {project}: expected entity/project, a project on W&B")
    if runs.runs.empty:
        raise ValueError("dashboard: no finished run, so there is nothing to choose panels by")
    entity, name = project.split("/")
    finished = expr.Metric("State") == "finished"
    copies = runs.excluded.loc[runs.excluded["status"] == "duplicate", "run_id"].tolist()
    once = [expr.Metric("ID").notin(copies)] if copies else []
    return ws.Workspace(
        entity=entity,
        project=name,
        name=NAME,
        sections=[
            ws.Section(name=title, panels=panels, is_open=len(panels) <= _MOST_OPEN)
            for title, panels in _sections(project, runs)
            if panels
        ],
        settings=ws.WorkspaceSettings(max_runs=_MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(finished, *once),
            groupby=[expr.Config(f"{CONFIG_KEY}.{key}") for key in grouping(runs)],
            pinned_columns=[f"summary:{FINAL_PREFIX}{name}" for name in _RESULTS if name in runs.runs],
        ),
    )


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
    """noise, alpha, and the fewest other settings such that runs in a group differ only in seed."""
    settings = settings_of(runs)
    settings = settings[settings["status"] == "finished"]
    names = [f"{section}.name" for section in SECTIONS]
    keys = ["noise.name", "alpha"]
    dotted = [str(key) for key in settings if key not in {*SECTIONS, *keys, "seed", "status"}]
    for key in (*(name for name in names if name in dotted), *sorted(set(dotted) - set(names))):
        if (settings.groupby(keys)[key].nunique() > 1).any():
            keys.append(key)
    return keys


def _sections(project: str, runs: Runs) -> Iterator[tuple[str, list[wr.PanelTypes]]]:
    known = [str(name) for name in runs.runs.select_dtypes("number") if "/" in str(name)]
    results = [name for name in _RESULTS if name in known]
    patterns = [pattern for name in _PROBES for pattern in LAYOUTS[name].optional]
    probes = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
    yield "Results", [*(_bars(name) for name in results), *_against_length(known)]
    yield "Differences", [wr.MarkdownPanel(markdown=_differences(project, runs), layout=wr.Layout(w=24, h=12))]
    yield "Against alpha", [_scatter("alpha", name) for name in results]
    yield "Probes against alpha", [_scatter("alpha", name) for name in probes]
    yield "Training", [_line(name) for name in map(str, runs.history) if name.endswith("loss") or name in _CURVES]
    yield "Lengths", [_lengths()] if LENGTH in known else []
    yield "Win rate by category", [_bars(name) for name in known if name.startswith(_CATEGORY)]
    yield "Probes", [_bars(name) for name in probes]


def _title(name: str) -> str:
    known = metric(name)
    return f"{known.header} ({known.unit})" if known.unit else known.header


def _bars(name: str) -> wr.BarPlot:
    """Mean over a group's seeds, with the standard error."""
    return wr.BarPlot(
        title=_title(name),
        metrics=[f"{FINAL_PREFIX}{name}"],
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=_MOST_RUNS,
        max_bars_to_show=_MOST_RUNS,
    )


def _scatter(setting: str, name: str) -> wr.ScatterPlot:
    x = wr.Config(f"{CONFIG_KEY}.{setting}")
    return wr.ScatterPlot(title=f"{_title(name)} against {setting}", x=x, y=wr.SummaryMetric(FINAL_PREFIX + name))


def _differences(project: str, runs: Runs) -> str:
    """Text panel for what W&B does not compute: differences to no noise, paired by seed and instruction."""
    table = render(build(runs, LAYOUTS["differences"]), "markdown")
    return (
        f"{table}\n\nPaired by seed and instruction, from {len(runs.runs)} finished runs, when this was made. "
        f"The forest plot: `python -m analysis figures {project} --only forest`."
    )


def _lengths() -> wr.CustomChart:
    """W&B's own histogram of a column of each run's table of answers."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": "generations"}},
        chart_name="wandb/histogram/v0",
        chart_fields={"value": "characters"},
        chart_strings={"title": "length of the answers (characters)"},
    )


def _against_length(known: Sequence[str]) -> list[wr.ScatterPlot]:
    if WIN_RATE not in known or LENGTH not in known:
        return []
    x, y = wr.SummaryMetric(FINAL_PREFIX + LENGTH), wr.SummaryMetric(FINAL_PREFIX + WIN_RATE)
    return [wr.ScatterPlot(title="win rate against length", x=x, y=y, regression=True)]


def _line(name: str) -> wr.LinePlot:
    """A logged metric over the steps: mean of a group's seeds, with a band of one standard error."""
    return wr.LinePlot(
        title=_title(name),
        x="Step",
        y=[name],
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=_MOST_RUNS,
    )
