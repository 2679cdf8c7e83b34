"""What a sweep leaves in W&B, read by W&B's own reader: laid out for people, complete, and under one vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal
from support import leet
from support.commands import sweep

from analysis import load_runs
from analysis.sources.wandb_offline import find_logs
from harness.metrics.names import SUMMARY
from harness.record import RunFolder

FRAMES = ("runs", "configs", "history", "generations", "preferences")
HF = {"train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/global_step"}
SETTINGS = [
    *("noise=none,symnoise", "alpha=5", "train.heldout_every=2", "train.log_every=3", "tracking=offline"),
    *("tracking.tags=[pilot]", "tracking.notes=does it run", "tracking.log_model=end"),
]


@dataclass(frozen=True)
class Seen:
    """One log as `wandb leet` shows it, and the folder of its run."""

    folder: RunFolder
    log: Path
    records: dict[str, list[dict[str, Any]]]
    end: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tracked")
    done = sweep(place, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return place / "runs"


@pytest.fixture(scope="module")
def seen(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    home = tmp_path_factory.mktemp("home")
    return [
        Seen(RunFolder(runs / log.stem.removeprefix("run-")), log, leet.records(log, home), leet.summary(log, home))
        for log in find_logs(runs / "wandb")
    ]


def test_settings_are_at_the_top(seen: list[Seen]) -> None:
    for each in seen:
        config = each.end["config"]
        assert {"alpha", "seed", "noise", "model", "train", "schema_version"} <= set(config)
        assert "run" not in config
        assert config["train"]["lr"] > 0
    assert {(each.end["config"]["noise"]["name"], each.end["config"]["alpha"]) for each in seen} == {
        ("none", 0), ("symnoise", 5),
    }  # fmt: skip


def test_a_run_says_what_it_is(seen: list[Seen]) -> None:
    for each in seen:
        assert each.end["state"] == "finished"
        assert each.end["notes"] == "does it run"
        assert {"tiny", "builtin", "pilot"} < set(each.end["tags"])
        [described] = [json.loads((each.folder / "summary.json").read_text())]
        assert described["group"].startswith("none,symnoise x alpha 5 - ")


def test_every_step_has_the_names_of_hf_s_trainer(seen: list[Seen]) -> None:
    for each in seen:
        items = [row["item"] for row in each.records["history"]]
        steps = [item for item in items if "train/loss" in item]
        assert [item["train/global_step"] for item in steps] == [item["_step"] for item in steps] == [1, 2, 3, 4, 5, 6]
        assert all(set(item) >= HF for item in steps)
        assert [item["_step"] for item in items if "eval/loss" in item] == [2, 4, 6]
        on_disk = [{key: row[key] for key in HF} for row in each.folder.metrics()]
        assert [{key: item[key] for key in HF} for item in steps] == on_disk


def test_charts_are_over_the_global_step_with_extremes(seen: list[Seen]) -> None:
    for each in seen:
        defined = {metric.get("name") or metric["glob_name"]: metric for metric in each.records["metric"]}
        assert defined["train/loss"]["summary"] == {"min": True, "last": True}
        assert defined["train/grad_norm"]["summary"] == {"max": True, "last": True}
        over = {metric.get("step_metric") for name, metric in defined.items() if name != "train/global_step"}
        assert over == {"train/global_step"}
        losses = [row["train/loss"] for row in each.folder.metrics()]
        assert each.end["summary"]["train/loss"] == pytest.approx({"min": min(losses), "last": losses[-1]})


def test_the_list_of_runs_shows_few_numbers_and_the_table_all(seen: list[Seen]) -> None:
    tables = {"metrics", "generations", "annotations", "probe_smoothness", "probe_predictions", "probe_memorisation"}
    for each in seen:
        final = json.loads((each.folder / "summary.json").read_text())["final"]
        shown = {key for key in each.end["summary"] if not key.startswith("_")}
        numbers = shown - tables - {"status"}
        assert numbers - {"train/loss", "train/grad_norm", *HF} == set(SUMMARY) & set(final)
        assert len(numbers) <= 40 < len(final)
        assert each.end["summary"]["eval/loss"] == final["eval/loss"]
        rows = table(each, "metrics")
        assert {row["metric"]: row["value"] for row in rows} == final


def table(each: Seen, name: str) -> list[dict[str, Any]]:
    [path] = each.log.parent.glob(f"files/media/table/{name}_*.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]


def test_answers_stand_beside_references_and_verdicts(seen: list[Seen]) -> None:
    for each in seen:
        rows, judged = table(each, "generations"), json.loads((each.folder / "annotations.json").read_text())
        assert [row["prompt"] for row in rows] == [row["instruction"] for row in judged]
        assert [row["reference"] for row in rows] == [row["output_1"] for row in judged]
        words = {1.0: "loss", 1.5: "draw", 2.0: "win"}
        assert [row["verdict"] for row in rows] == [words[row["preference"]] for row in judged]
        assert [row["length"] for row in rows] == [len(row["answer"]) for row in rows]
        assert list(rows[0])[:5] == ["prompt", "answer", "reference", "verdict", "length"]


def test_the_trained_weights_are_an_artifact_with_names(seen: list[Seen]) -> None:
    for each in seen:
        [model] = [artifact for artifact in each.records["artifact"] if artifact["type"] == "model"]
        noise = "symnoise-a5" if "symnoise" in each.log.name else "none"
        assert model["name"] == f"model-{each.folder.path.name}"
        assert set(model["aliases"]) == {"latest", "end", noise, "s0"}
        assert "model.safetensors" in {entry["path"] for entry in model["manifest"]["contents"]}


def test_the_copy_reads_as_the_run_folders_do(runs: Path) -> None:
    disk, copy = load_runs(runs), load_runs(runs / "wandb")
    assert len(disk.runs) == 2
    for name in FRAMES:
        assert_frame_equal(getattr(copy, name), getattr(disk, name), obj=name)


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
def test_no_panel_is_empty(runs: Path, seen: list[Seen]) -> None:
    """Every panel of the workspace, key by key, against what W&B's reader finds in the logs of this sweep."""
    from analysis.commands.boards.workspace import specification, workspace

    spec = json.loads(specification(workspace("team/study", load_runs(runs))))
    panels = [panel for each in spec["section"]["panelBankConfig"]["sections"] for panel in each["panels"]]
    assert len(panels) > 20
    logs = [keys_of(each) for each in seen]
    counted = 0
    for panel in panels:
        for key in keys_named(panel):
            counted += 1
            assert sum(key in keys for keys in logs) > 0.5 * len(logs), (panel["viewType"], key)
    assert counted > len(panels)


def keys_of(each: Seen) -> set[str]:
    """As panels name them: history plain, summary: and config: before the others, tables by their names."""
    history = {key for row in each.records["history"] for key in row["item"]}
    config = {f"config:{key}.value" for key in each.end["config"]}
    nested = {
        f"config:{key}.value.{name}"
        for key, value in each.end["config"].items()
        if isinstance(value, dict)
        for name in value
    }
    summary = {key for key, value in each.end["summary"].items() if isinstance(value, int | float)}
    tables = {key.partition(".")[0] for key in history if "table" in key or key.endswith("_latest_artifact_path")}
    return history | config | nested | {f"summary:{key}" for key in summary} | summary | tables


def keys_named(panel: dict[str, Any]) -> Iterator[str]:
    config, kind = panel["config"], panel["viewType"]
    if kind == "Weave":
        yield "generations" if '"generations"' in json.dumps(config) else "metrics"
    elif kind == "Vega2":
        yield "generations"
    else:
        yield from config.get("metrics", [])
        yield from (column["accessor"] for column in config.get("columns", []))
        yield from (config[axis] for axis in ("xAxis", "yAxis") if axis in config)


def test_the_page_lists_every_metric(seen: list[Seen]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text(encoding="utf-8")
    rows = page[page.index("## Metrics") :].splitlines()
    names = [name for row in rows if row.startswith("| ") for name in re.findall(r"`([\w/*]+)`", row.split("|")[1])]
    bold = {name for row in rows for name in re.findall(r"\*\*`([\w/]+)`\*\*", row)}
    assert bold == set(SUMMARY)
    for each in seen:
        final = json.loads((each.folder / "summary.json").read_text())["final"]
        logged = {key for row in each.folder.metrics() for key in row} - {"step"}
        assert [key for key in {*final, *logged} if not any(fnmatchcase(key, name) for name in names)] == []
