"""The panels: which of them these runs fill, and how each is drawn.

A panel is there only if more than half of the runs have its numbers. A run's few final numbers and its history are
what W&B plots; every other number is in the table "metrics".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import wandb_workspaces.reports.v2.interface as wr

from analysis.render.formats import render
from analysis.sources.runs import Runs
from analysis.study.metrics import metric
from analysis.tables.build import build
from analysis.tables.layouts import LAYOUTS
from harness.metrics.names import (
    ACCURACY,
    CONTROLLED,
    EVAL_LOSS,
    GLOBAL_STEP,
    GRAD_NORM,
    LEARNING_RATE,
    LENGTH,
    SUMMARY,
    TRAIN_LOSS,
    WIN_RATE,
)

MOST_RUNS = 100
RESULTS = (WIN_RATE, CONTROLLED, LENGTH, ACCURACY, EVAL_LOSS)
_CURVES = (TRAIN_LOSS, EVAL_LOSS, GRAD_NORM, LEARNING_RATE, "noise/ratio")
_COSTS = ("train/seconds", "train/tokens_per_second", "train/peak_memory_gb", "train/flops")
_STABILITY = ("stability/clipped_percent", "stability/loss_spikes")
_PROBES = ("probe/gap", "probe/trace", "probe/top_eigenvalue")
# Settings beside the results in the parallel coordinates.
_AXES = ("noise.name", "alpha", "seed")

Section = tuple[str, Sequence[wr.PanelTypes]]


def sections(project: str, runs: Runs) -> Iterator[Section]:
    """Titles and panels, for those that the runs fill."""
    known = shown(runs)
    results = [name for name in RESULTS if name in known]
    probes = [name for name in _PROBES if name in known]
    yield "Results", [bars(name) for name in results]
    yield "Alpha", [*(scatter("alpha", name) for name in results), *parallel(known)]
    yield "Length", [*against_length(known), *([_lengths()] if LENGTH in known else [])]
    yield "Paired differences", [wr.MarkdownPanel(markdown=differences(project, runs), layout=wr.Layout(w=24, h=12))]
    yield "Training", curves(runs)
    yield "Answers side by side", [table("generations")] if LENGTH in known else []
    yield "Probes", [*(bars(name) for name in probes), *(scatter("alpha", name) for name in probes)]
    yield "Cost and stability", [bars(name) for name in (*_COSTS, *_STABILITY) if name in known]
    yield "All metrics", [table("metrics")]


def shown(runs: Runs) -> list[str]:
    """The final numbers in W&B's list of runs that more than half of these runs have."""
    return [name for name in SUMMARY if name in runs.runs and runs.runs[name].notna().mean() > 0.5]


def curves(runs: Runs) -> list[wr.LinePlot]:
    """Of the metrics that more than half of the runs logged along the way."""
    logged = runs.history.groupby("run_id")
    return [
        line(name)
        for name in _CURVES
        if name in runs.history and (logged[name].count() > 1).sum() > 0.5 * len(runs.runs)
    ]


def title(name: str) -> str:
    """Header and unit, as in the tables."""
    known = metric(name)
    return f"{known.header} ({known.unit})" if known.unit else known.header


def bars(name: str) -> wr.BarPlot:
    """Mean over a group's seeds, with the standard error."""
    return wr.BarPlot(
        title=title(name),
        metrics=[name],
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=MOST_RUNS,
        max_bars_to_show=MOST_RUNS,
    )


def scatter(setting: str, name: str) -> wr.ScatterPlot:
    """A final number against a setting, a colour for each noise."""
    return wr.ScatterPlot(title=f"{title(name)} against {setting}", x=wr.Config(setting), y=wr.SummaryMetric(name))


def parallel(known: Sequence[str]) -> list[wr.ParallelCoordinatesPlot]:
    """Noise, alpha and seed on the left, what came of them on the right."""
    ends = [name for name in (WIN_RATE, LENGTH, EVAL_LOSS) if name in known]
    settings = [wr.ParallelCoordinatesPlotColumn(wr.Config(key), display_name=key) for key in _AXES]
    numbers = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(name), display_name=title(name)) for name in ends]
    return [wr.ParallelCoordinatesPlot(title="noise, alpha, seed", columns=[*settings, *numbers])] if ends else []


def against_length(known: Sequence[str]) -> list[wr.ScatterPlot]:
    """Judges prefer longer answers: the two belong on one page."""
    if WIN_RATE not in known or LENGTH not in known:
        return []
    x, y = wr.SummaryMetric(LENGTH), wr.SummaryMetric(WIN_RATE)
    return [wr.ScatterPlot(title="win rate against length", x=x, y=y, regression=True)]


def line(name: str) -> wr.LinePlot:
    """A logged metric over the steps: mean of a group's seeds, with a band of one standard error."""
    return wr.LinePlot(
        title=title(name),
        x=GLOBAL_STEP,
        y=[name],
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=MOST_RUNS,
    )


def table(name: str) -> wr.WeavePanelSummaryTable:
    """A table of the runs, theirs side by side."""
    return wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(w=24, h=14))


def differences(project: str, runs: Runs) -> str:
    """What W&B does not compute, as text: differences to no noise, paired by seed and instruction."""
    found = render(build(runs, LAYOUTS["differences"]), "markdown")
    return (
        f"{found}\n\nPaired by seed and instruction, from {len(runs.runs)} finished runs, when this was made. "
        f"The forest plot: `python -m analysis figures {project} --only forest`."
    )


def _lengths() -> wr.CustomChart:
    """W&B's own histogram of a column of each run's table of answers."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": "generations"}},
        chart_name="wandb/histogram/v0",
        chart_fields={"value": "length"},
        chart_strings={"title": "length of the answers (characters)"},
    )
