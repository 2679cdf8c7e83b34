"""Trackio and MLflow by the five methods of the interface, each with the real package."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.config import TrackingConfig
from harness.config.compose import compose
from harness.pipeline.plan import config_from
from harness.record import RunFolder
from harness.record.tracking import Result, TrackedRun
from harness.record.tracking.tracker import BACKENDS, backend_of, check_tracker

# The packages' own affairs with their dependencies (MLflow's tables with SQLAlchemy 2.1).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PROJECT = "harness-test"
ROWS = [{"step": step, "train/loss": 4.0 / step, "train/penalty": None} for step in range(1, 6)]
ANSWERS = [{"prompt": "Say <b>a</b>", "output": "a", "length": 1, "right": True, "groups": ["x"]}]
LOCAL = [
    pytest.param(kind, marks=pytest.mark.skipif(find_spec(kind) is None, reason=f"the extra {kind} is not installed"))
    for kind in BACKENDS
    if kind != "wandb"
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the module: Trackio asks for its folder once, when it is imported."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")  # must not be followed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def run(root: Path, name: str, kind: str) -> TrackedRun:
    folder = RunFolder(root / name)
    folder.path.mkdir(exist_ok=True)
    tracking = TrackingConfig(name=kind, kind=kind, mode="offline", project=PROJECT)
    settings = {"alpha": 5.0, "noise": {"name": "symnoise"}, "files": {}}
    return TrackedRun(name, folder, root, tracking, settings, "a group", "train", ("tiny", "mine"), "a note")


def read(root: Path, name: str, kind: str) -> dict[str, Any]:
    """Losses by step, final accuracy, config and answers of the one run of that name, as the package reads them."""
    if kind == "trackio":
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        [found] = [each for each in trackio.Api().runs(PROJECT) if each.name == name]
        logs = SQLiteStorage.get_logs(PROJECT, name)
        losses = [(row["step"], row["train/loss"]) for row in logs if "train/loss" in row]
        final = [row["judge/accuracy"] for row in logs if "judge/accuracy" in row]
        tables = [row["generations"]["_value"] for row in logs if "generations" in row]
        alerts = [each["text"] for each in SQLiteStorage.get_alerts(PROJECT, name)]
        return {"losses": losses, "final": final, "config": found.config, "tables": tables, "reasons": alerts}
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(PROJECT)
    [found] = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    history = client.get_metric_history(found.info.run_id, "train/loss")
    final = found.data.metrics.get("judge/accuracy")
    paths = [each.path for each in client.list_artifacts(found.info.run_id)]
    tables = []
    if "generations.json" in paths:
        table = json.loads(Path(client.download_artifacts(found.info.run_id, "generations.json")).read_text())
        tables = [[dict(zip(table["columns"], row, strict=True)) for row in table["data"]]]
    reason = found.data.tags.get("reason")
    return {
        "losses": sorted((each.step, each.value) for each in history),
        "final": [] if final is None else [final],
        "config": {**found.data.params, **found.data.tags},
        "tables": tables,
        "reasons": [] if reason is None else [reason],
        "paths": paths,
        "status": found.info.status,
    }


@pytest.mark.parametrize("kind", LOCAL)
def test_a_run_that_was_interrupted_is_there_once_and_whole(root, kind, capfd):
    first = backend_of(kind)()
    first.start(run(root, f"{kind}-a", kind), [])
    for row in ROWS[:3]:
        first.log(row)
    first.abort(None)

    weights, content = root / "weights", f"weights of {kind}".encode()
    weights.mkdir(exist_ok=True)
    (weights / "model.safetensors").write_bytes(content)
    second = backend_of(kind)()
    second.start(run(root, f"{kind}-a", kind), ROWS[:2])
    for row in ROWS[2:]:
        second.log(row)
    second.finish(Result({"judge/accuracy": 40.0}, {"generations": ANSWERS}, "finished", weights, ("end",)))

    found = read(root, f"{kind}-a", kind)
    assert found["losses"] == [(row["step"], row["train/loss"]) for row in ROWS]
    assert found["final"] == [40.0]
    assert (float(found["config"]["alpha"]), found["config"]["noise.name"]) == (5.0, "symnoise")
    assert "tiny, mine" in found["config"]["tags"]
    [[answer]] = found["tables"]
    assert (answer["prompt"], answer["output"]) == ("Say <b>a</b>", "a")
    assert found["reasons"] == []
    assert capfd.readouterr().out == ""
    assert not second.upload_is_due(run(root, "x", kind).tracking, root, "x", RunFolder(root))
    kept = [path for path in root.rglob("*") if path.is_file() and path.read_bytes() == content]
    assert len(kept) == 2  # ours, and the tracker's copy below output_dir


@pytest.mark.parametrize("kind", LOCAL)
def test_a_failure_leaves_its_reason_and_what_was_logged(root, kind):
    backend = backend_of(kind)()
    backend.start(run(root, f"{kind}-b", kind), ROWS[:1])
    backend.abort("ValueError: row 3 has no output")
    found = read(root, f"{kind}-b", kind)
    assert found["losses"] == [(1, 4.0)]
    assert found["reasons"] == ["ValueError: row 3 has no output"]
    assert found.get("status", "FAILED") == "FAILED"


@pytest.mark.parametrize("kind", ["trackio", "mlflow"])
def test_a_local_tracker_sends_nothing_and_its_package_is_looked_for(kind, monkeypatch):
    with pytest.raises(ValueError, match=f"mode=online: tracking.kind={kind} writes to this machine alone"):
        config_from(compose([f"tracking={kind}", "tracking.mode=online"]))
    config = config_from(compose([f"tracking={kind}"]))
    monkeypatch.setattr("harness.system.packages.is_installed", lambda package: package != kind)
    with pytest.raises(ValueError, match=rf"tracking.kind={kind}: .*pip install 'noise-harness\[{kind}\]'"):
        check_tracker(config)
