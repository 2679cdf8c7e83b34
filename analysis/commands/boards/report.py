"""A saved W&B report: what was found, the ablation table as it was then, and the panels on the runs behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import wandb
import wandb_workspaces.reports.v2.interface as wr

from analysis.commands.boards.panels import (
    RESULTS,
    against_length,
    bars,
    curves,
    differences,
    parallel,
    scatter,
    shown,
    table,
)
from analysis.commands.boards.workspace import counted, grouping, place_of
from analysis.render.formats import render
from analysis.sources.runs import Runs
from analysis.study.finding import findings
from analysis.tables.build import build
from analysis.tables.layouts import LAYOUTS

TITLE = "Ablation of embedding noise"
_HALF = 12  # of the 24 columns of a grid


def report(project: str, runs: Runs) -> wr.Report:
    """The report (wandb_workspaces) on these runs, not saved yet.

    Raises:
        ValueError: `project` is not entity/project, or no run is finished.
    """
    entity, name = place_of(project, runs)
    known = shown(runs)
    results = [name for name in RESULTS if name in known]
    ablation = render(build(runs, LAYOUTS["ablation"]), "markdown")
    blocks: list[wr.BlockTypes] = [
        *(wr.MarkdownBlock(text=str(finding)) for finding in findings(runs)),
        wr.H2(text="Ablation"),
        wr.MarkdownBlock(text=ablation),
        _grid(entity, name, runs, [*(bars(each) for each in results), *(scatter("alpha", each) for each in results)]),
        wr.H2(text="Paired differences"),
        wr.MarkdownBlock(text=differences(project, runs)),
        wr.H2(text="Is it length?"),
        _grid(entity, name, runs, [*against_length(known), *parallel(known)]),
        wr.H2(text="Training"),
        _grid(entity, name, runs, curves(runs)),
        wr.H2(text="Answers"),
        _grid(entity, name, runs, [table("generations")]),
    ]
    return wr.Report(
        entity=entity,
        project=name,
        title=TITLE,
        description=f"{len(runs.runs)} finished runs; the tables are as they were when this was made.",
        blocks=blocks,
        width="fluid",
    )


def specification(made: wr.Report) -> str:
    """What would be saved, as JSON; the server is asked for the project's id.

    Raises:
        ValueError: as `save`.
    """
    with _asking(made):
        return str(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)) + "\n"


def save(made: wr.Report) -> str:
    """Create the report in its project; its address.

    Raises:
        ValueError: the server cannot be reached, does not know the account or the project, or refuses.
    """
    with _asking(made):
        return str(made.save().url)


@contextmanager
def _asking(made: wr.Report) -> Iterator[None]:
    """Say in one line what W&B does not give."""
    try:
        wandb.Api()  # the library's own complaint about a missing key is no error of its own class
        yield
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise ValueError(f"dashboard {made.entity}/{made.project}: W&B answers: {error}") from error


def _grid(entity: str, name: str, runs: Runs, panels: Sequence[wr.PanelTypes]) -> wr.PanelGrid:
    """Panels, two a row, on the finished runs."""
    for number, panel in enumerate(panels):
        if isinstance(panel, wr.Panel) and panel.layout.w < _HALF:
            panel.layout = wr.Layout(x=_HALF * (number % 2), y=8 * (number // 2), w=_HALF, h=8)
    runset = wr.Runset(
        entity=entity,
        project=name,
        name="finished runs",
        filters=counted(runs),
        groupby=[f"config.{key}" for key in grouping(runs)],
    )
    return wr.PanelGrid(runsets=[runset], panels=list(panels))
