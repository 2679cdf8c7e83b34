"""The W&B workspace: what its specification holds, and that the real client saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import config_of, write_run
from support.wandb_server import wandb_server

from analysis import load_runs
from analysis.__main__ import main

# wandb-workspaces 0.4 still uses pydantic's older names for its own validators.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")
HISTORY = [{"step": 1, "train/loss": 2.0, "train/grad_norm": 1.0}]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """none and neftune under two judges, two seeds of one cell, one copy, one diverged run."""
    root = tmp_path / "runs"
    final = {"heldout/loss": 1.0, "judge/win_rate/vicuna": 3.0, "probe/trace": 0.2, "probe/trace/low": 0.1}
    for noise, alpha, seed in (("none", 0, 0), ("neftune", 5, 0), ("neftune", 5, 1), ("neftune", 10, 0)):
        write_run(root, config_of(noise, alpha, seed), final, history=HISTORY)
    write_run(root, config_of("none", judge__name="gpt4"), final, history=HISTORY, name="other-judge")
    write_run(root, config_of("neftune", 5, 1), final, history=HISTORY, name="a-copy")
    write_run(root, config_of("symnoise", 5), final, history=HISTORY, status="diverged")
    return root


def section_of(sweep: Path) -> dict[str, Any]:
    from analysis.commands.workspace import specification, workspace

    return json.loads(specification(workspace("team/study", load_runs(sweep))))["section"]


def test_panels_are_there_for_what_the_runs_have(sweep: Path) -> None:
    sections = {each["name"]: each["panels"] for each in section_of(sweep)["panelBankConfig"]["sections"]}
    assert list(sections) == [
        *("Results", "Differences", "Against alpha", "Probes against alpha", "Training", "Lengths"),
        *("Win rate by category", "Probes"),
    ]
    bars = [panel["config"] for panel in sections["Results"] if panel["viewType"] == "Bar Chart"]
    assert [each["metrics"] for each in bars] == [
        ["final/judge/win_rate"], ["final/generate/characters"], ["final/heldout/loss"],
    ]  # fmt: skip
    against_length = sections["Results"][-1]["config"]
    assert against_length["xAxis"] == "summary:final/generate/characters"
    both = [*sections["Against alpha"], *sections["Probes against alpha"]]
    assert {panel["config"]["xAxis"] for panel in both} == {"config:run.value.alpha"}
    assert [panel["config"]["metrics"] for panel in sections["Training"]] == [["train/grad_norm"], ["train/loss"]]
    assert [panel["config"]["chartTitle"] for panel in sections["Win rate by category"]] == ["win rate, vicuna (%)"]
    assert [panel["config"]["metrics"] for panel in sections["Probes"]] == [["final/probe/trace"]]


def test_what_w_and_b_cannot_compute_is_text_or_one_of_its_own_charts(sweep: Path) -> None:
    sections = {each["name"]: each["panels"] for each in section_of(sweep)["panelBankConfig"]["sections"]}
    [text] = sections["Differences"]
    assert "| neftune" in text["config"]["value"]
    assert "python -m analysis figures team/study --only forest" in text["config"]["value"]
    [histogram] = sections["Lengths"]
    assert histogram["viewType"] == "Vega2"
    assert histogram["config"]["panelDefId"] == "wandb/histogram/v0"
    assert histogram["config"]["fieldSettings"] == {"value": "characters"}


def test_what_is_saved_loads_as_it_was(sweep: Path) -> None:
    """Through the library's own model of a view, as W&B's app and its client read it."""
    from wandb_workspaces.workspaces.interface import Workspace

    from analysis.commands.workspace import workspace

    ours = workspace("team/study", load_runs(sweep))
    view = ours._to_model()
    read = Workspace._from_model(type(view).model_validate_json(view.model_dump_json(by_alias=True)))
    assert [each.name for each in read.sections] == [each.name for each in ours.sections]
    for section, other in zip(read.sections, ours.sections, strict=True):
        assert [type(panel) for panel in section.panels] == [type(panel) for panel in other.panels]
        assert section.is_open == other.is_open
    assert [key.name for key in read.runset_settings.groupby] == [key.name for key in ours.runset_settings.groupby]


def test_every_panel_is_of_a_key_that_the_runs_have(sweep: Path) -> None:
    runs = load_runs(sweep)
    known = {f"final/{name}" for name in runs.runs} | set(runs.history)
    for section in section_of(sweep)["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            keys = [*config.get("metrics", []), *(config[axis] for axis in ("xAxis", "yAxis") if axis in config)]
            named = {key.removeprefix("summary:") for key in keys if key not in ("_step", "config:run.value.alpha")}
            assert named <= known


def test_a_group_holds_nothing_but_seeds_of_finished_runs(sweep: Path) -> None:
    runset = section_of(sweep)["runSets"][0]
    keys = [key["name"] for key in runset["grouping"]]
    assert keys == ["run.value.noise.name", "run.value.alpha", "run.value.judge.name"]
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
