"""The W&B workspace: what its specification holds, and that the real client saves it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import config_of, write_run
from support.wandb_server import WandbServer, wandb_server

from analysis import load_runs
from analysis.__main__ import main

# wandb-workspaces 0.4 still uses pydantic's older names for its own validators.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")
HISTORY = [{"step": step, "train/global_step": step, "train/loss": 2.0, "train/grad_norm": 1.0} for step in (1, 2)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """none and neftune under two judges, two seeds of one cell, one copy, one diverged run."""
    root = tmp_path / "runs"
    final = {"eval/loss": 1.0, "judge/win_rate/vicuna": 3.0, "probe/trace": 0.2, "probe/trace/low": 0.1}
    for noise, alpha, seed in (("none", 0, 0), ("neftune", 5, 0), ("neftune", 5, 1), ("neftune", 10, 0)):
        some = {"probe/gap": 0.1} if noise == "none" else {}
        write_run(root, config_of(noise, alpha, seed), final | some, history=HISTORY)
    write_run(root, config_of("none", judge__name="gpt4"), final, history=HISTORY, name="other-judge")
    write_run(root, config_of("neftune", 5, 1), final, history=HISTORY, name="a-copy")
    write_run(root, config_of("symnoise", 5), final, history=HISTORY, status="diverged")
    return root


def section_of(sweep: Path) -> dict[str, Any]:
    from analysis.commands.boards.workspace import specification, workspace

    return json.loads(specification(workspace("team/study", load_runs(sweep))))["section"]


def test_panels_are_there_for_what_most_runs_have(sweep: Path) -> None:
    sections = {each["name"]: each["panels"] for each in section_of(sweep)["panelBankConfig"]["sections"]}
    assert list(sections) == [
        *("Results", "Alpha", "Length", "Paired differences", "Training", "Answers side by side", "Probes"),
        "All metrics",
    ]
    assert metrics_of(sections["Results"]) == ["judge/win_rate", "generate/characters", "eval/loss"]
    assert metrics_of(sections["Training"]) == ["train/loss", "train/grad_norm"]
    assert {panel["config"]["xAxis"] for panel in sections["Training"]} == {"train/global_step"}
    # Of a category's win rate, which is in no list of runs, there is no panel; nor of a probe that one of five has.
    assert metrics_of(panel for panel in sections["Probes"] if panel["viewType"] == "Bar Chart") == ["probe/trace"]


def metrics_of(panels: Iterable[dict[str, Any]]) -> list[str]:
    return [name for panel in panels for name in panel["config"]["metrics"]]


def test_a_result_is_drawn_against_alpha_and_against_length(sweep: Path) -> None:
    sections = {each["name"]: each["panels"] for each in section_of(sweep)["panelBankConfig"]["sections"]}
    *curves, parallel = sections["Alpha"]
    assert {panel["config"]["xAxis"] for panel in curves} == {"config:alpha.value"}
    assert [panel["config"]["yAxis"] for panel in curves] == [
        "summary:judge/win_rate", "summary:generate/characters", "summary:eval/loss",
    ]  # fmt: skip
    assert [column["accessor"] for column in parallel["config"]["columns"]] == [
        *("config:noise.value.name", "config:alpha.value", "config:seed.value"),
        *("summary:judge/win_rate", "summary:generate/characters", "summary:eval/loss"),
    ]
    assert sections["Length"][0]["config"]["xAxis"] == "summary:generate/characters"


def test_what_w_and_b_cannot_compute_is_text_or_one_of_its_own_charts(sweep: Path) -> None:
    sections = {each["name"]: each["panels"] for each in section_of(sweep)["panelBankConfig"]["sections"]}
    [text] = sections["Paired differences"]
    assert "| neftune" in text["config"]["value"]
    assert "python -m analysis figures team/study --only forest" in text["config"]["value"]
    histogram = sections["Length"][-1]
    assert histogram["viewType"] == "Vega2"
    assert histogram["config"]["panelDefId"] == "wandb/histogram/v0"
    assert histogram["config"]["fieldSettings"] == {"value": "length"}
    assert '"generations"' in json.dumps(sections["Answers side by side"])


def test_what_is_saved_loads_as_it_was(sweep: Path) -> None:
    """Through the library's own model of a view, as W&B's app and its client read it."""
    from wandb_workspaces.workspaces.interface import Workspace

    from analysis.commands.boards.workspace import workspace

    ours = workspace("team/study", load_runs(sweep))
    view = ours._to_model()
    read = Workspace._from_model(type(view).model_validate_json(view.model_dump_json(by_alias=True)))
    assert [each.name for each in read.sections] == [each.name for each in ours.sections]
    for section, other in zip(read.sections, ours.sections, strict=True):
        assert [type(panel) for panel in section.panels] == [type(panel) for panel in other.panels]
        assert section.is_open == other.is_open
    assert [key.name for key in read.runset_settings.groupby] == [key.name for key in ours.runset_settings.groupby]


def test_a_group_holds_nothing_but_seeds_of_finished_runs(sweep: Path) -> None:
    runset = section_of(sweep)["runSets"][0]
    keys = [key["name"] for key in runset["grouping"]]
    assert keys == ["noise.value.name", "alpha.value", "judge.value.name"]
    assert {key["section"] for key in runset["grouping"]} == {"config"}
    filters = [(each["key"]["name"], each["op"], each["value"]) for each in runset["filters"]["filters"]]
    kept = load_runs(sweep)
    [copy] = kept.excluded.loc[kept.excluded["status"] == "duplicate", "run_id"]
    assert filters == [("state", "=", "finished"), ("name", "NIN", [copy])]


def test_panels_follow_the_grouping_of_the_runs(sweep: Path) -> None:
    for section in section_of(sweep)["panelBankConfig"]["sections"]:
        assert section["localPanelSettings"]["useRunsTableGroupingInPanels"]


def test_the_command_prints_a_specification_without_a_network(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "team/study", "--source", str(sweep), "--spec"]) == 0
    assert "panelBankConfig" in json.loads(capsys.readouterr().out)["section"]


def test_the_command_saves_through_the_real_client(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        assert main(["dashboard", "team/study", "--source", str(sweep)]) == 0
    [view] = server.views
    assert (view["entityName"], view["projectName"], view["type"]) == ("team", "study", "project-view")
    assert "panelBankConfig" in json.loads(view["spec"])["section"]
    assert capsys.readouterr().out.strip().startswith(f"{server.url}/team/study?nw=")


def report_of(sweep: Path) -> Any:
    from analysis.commands.boards.report import report

    return report("team/study", load_runs(sweep))


def test_a_report_holds_the_tables_and_the_panels(sweep: Path) -> None:
    blocks = report_of(sweep).blocks
    texts = [block.text for block in blocks if type(block).__name__ == "MarkdownBlock"]
    assert sum("| neftune" in text for text in texts) == 2  # the ablation table, the paired differences
    grids = [block for block in blocks if type(block).__name__ == "PanelGrid"]
    assert all(grid.panels and grid.runsets[0].groupby == GROUPS for grid in grids)
    assert [type(panel).__name__ for panel in grids[1].panels] == ["ScatterPlot", "ParallelCoordinatesPlot"]


GROUPS = ["config.noise.name", "config.alpha", "config.judge.name"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """The real client's server: for a report it asks for the project's id."""
    with wandb_server() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        yield found


@pytest.mark.usefixtures("server")
def test_a_report_loads_as_it_was(sweep: Path) -> None:
    """Through the library's own model, as W&B's app and its client read it."""
    from wandb_workspaces.reports.v2.interface import Report

    ours = report_of(sweep)
    model = ours._to_model()
    saved = model.model_dump_json(by_alias=True, exclude_none=True)  # as the client sends it
    read = Report._from_model(type(model).model_validate_json(saved))
    assert [type(block) for block in read.blocks if not is_space(block)] == [type(block) for block in ours.blocks]
    grids = [[block for block in each.blocks if type(block).__name__ == "PanelGrid"] for each in (read, ours)]
    for theirs, made in zip(*grids, strict=True):
        assert [type(panel) for panel in theirs.panels] == [type(panel) for panel in made.panels]
        keys = [key.replace(".value", "") for key in theirs.runsets[0].groupby]  # as the server keeps a config
        assert keys == made.runsets[0].groupby


def is_space(block: Any) -> bool:
    """The editor's empty paragraph at both ends of a page."""
    return type(block).__name__ == "P" and not block.text


def test_a_report_is_saved_through_the_real_client(
    sweep: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", "team/study", "--source", str(sweep), "--report"]) == 0
    [view] = server.views
    assert (view["entityName"], view["projectName"], view["type"]) == ("team", "study", "runs")
    assert "| neftune" in view["spec"]
    assert capsys.readouterr().out.strip().startswith(f"{server.url}/team/study/reports/")


def test_a_report_in_a_project_that_is_not_there_is_one_line(
    sweep: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.projects = [("team", "another")]
    assert main(["dashboard", "team/study", "--source", str(sweep), "--report", "--spec"]) == 2
    assert "dashboard team/study: W&B answers" in capsys.readouterr().err


@pytest.mark.parametrize(("project", "message"), [("study", "expected entity/project"), ("a/b/c", "entity/project")])
def test_a_project_is_named_in_full(
    sweep: Path, capsys: pytest.CaptureFixture[str], project: str, message: str
) -> None:
    assert main(["dashboard", project, "--source", str(sweep), "--spec"]) == 2
    assert message in capsys.readouterr().err


def test_without_finished_runs_there_are_no_panels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, config_of("none"), status="failed")
    assert main(["dashboard", "team/study", "--source", str(tmp_path), "--spec"]) == 2
    assert "no finished run" in capsys.readouterr().err
