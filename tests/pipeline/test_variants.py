"""One training under several judges and probe settings: trained once, every result kept and tabled apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import SMALL, environment, sweep
from support.forked import run_module
from support.judge_server import completion, serve
from support.runs import Finished, folder_of

from analysis import load_runs
from analysis.study.comparable import settings_of, split
from harness.config import Config
from harness.pipeline.plan import make_plan
from harness.pipeline.runner import execute
from harness.record import RunFolder, read_json
from harness.record.variants import variants

Compose = Callable[..., Config]
QUICK = [*SMALL, "train.max_steps=1"]
PROBED = ["probe.overfitting_examples=2", "probe.memorisation_examples=2"]
GENEROUS = """
from harness.judge.base import Identity, NoBudget, Verdict
class Judge(NoBudget):
    identity, orders, free = Identity("generous"), (False,), True
    def __init__(self, config):
        pass
    def verdicts(self, comparisons):
        yield [(position, Verdict(2.0)) for position in range(len(comparisons))]
"""


@pytest.fixture
def judges(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The same training, judged by the gold answers and by a judge to whom every answer is the better one."""
    (tmp_path / "generous.py").write_text(GENEROUS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    common = [*QUICK, "stages=[train,generate,judge]"]
    return [
        compose(*common),
        compose(*common, "judge.name=generous", "judge.kind=python", "judge.target=generous:Judge"),
    ]


def trainings(folder: RunFolder) -> int:
    return (folder / "log.txt").read_text().count("train: starts")


def test_two_judges_of_one_training_are_both_asked_and_kept(judges: list[Config], tmp_path: Path) -> None:
    plan = make_plan(judges)
    assert plan.describe().splitlines()[0] == "2 jobs, 2 distinct, 0 done, 2 to run"
    finals = [execute(config)["final"] for config in judges]
    assert make_plan(judges).describe().splitlines()[0] == "2 jobs, 2 distinct, 2 done, 0 to run"
    assert [execute(config)["final"] for config in judges] == finals
    assert trainings(folder_of(judges[0])) == 1

    runs = load_runs(tmp_path / "runs")
    rates = dict(zip(runs.runs["judge"], runs.runs["judge/win_rate"], strict=True))
    assert rates == {"reference": finals[0]["judge/win_rate"], "generous": 100.0}
    assert rates["reference"] < 100
    assert {part.shared["judge"] for part in split(settings_of(runs), ["noise"])} == {"reference", "generous"}
    wins = runs.preferences.groupby("run_id")["preference"].mean()
    assert sorted(wins) == sorted([2.0, 1 + finals[0]["judge/win_rate"] / 100])


def test_a_judge_whose_verdicts_are_lost_is_asked_again_and_the_other_stays(
    judges: list[Config], finished: Finished
) -> None:
    finished(*judges)
    folder = folder_of(judges[0])
    [kept] = variants(folder)
    (kept / "annotations.json").unlink()
    assert [list(job.pending) for job in make_plan(judges).jobs] == [["judge", "record"], []]
    execute(judges[0])
    assert not make_plan(judges).to_run
    assert [read_json(each / "summary.json")["judge"] for each in variants(folder)] == ["generous"]
    assert trainings(folder) == 1


def test_the_same_judge_with_more_stages_leaves_one_result(
    judges: list[Config], compose: Compose, finished: Finished
) -> None:
    probed = compose(*QUICK, *PROBED, "probe.examples=2")
    finished(*judges)
    execute(probed)
    names = [read_json(each / "summary.json")["judge"] for each in variants(folder_of(probed))]
    assert names == ["generous"]


def test_settings_of_stages_that_are_not_asked_for_make_no_job(compose: Compose) -> None:
    only = [*QUICK, "stages=[train,generate]"]
    assert len(make_plan([compose(*only), compose(*only, "judge.baseline=none_same_seed")]).jobs) == 1
    more = compose(*QUICK, "stages=[train,generate,judge]")
    assert len(make_plan([compose(*only), more]).jobs) == 2


def test_probe_settings_side_by_side_take_turns_in_one_folder(tmp_path: Path) -> None:
    words = ["train.max_steps=1", "stages=[train,probe]", *PROBED, "probe.examples=2,3", "harness.workers=2"]
    first = sweep(tmp_path, *words)
    assert first.returncode == 0, first.stderr
    assert first.stderr.startswith("2 jobs, 2 distinct, 0 done, 2 to run\n")
    assert "(probe.examples=2)" in first.stderr
    assert "another process" not in first.stderr
    [folder] = [RunFolder(path) for path in (tmp_path / "runs").glob("tiny-*")]
    assert trainings(folder) == 1
    logs = [path.name for path in (tmp_path / "runs" / "wandb").glob("offline-run-*")]
    assert len(logs) == 2
    for source in ("runs", "runs/wandb"):
        runs = load_runs(tmp_path / source)
        assert sorted(runs.configs["probe.examples"]) == [2, 3]
        assert len(split(settings_of(runs), ["noise"])) == 2
    assert sweep(tmp_path, *words).stderr.startswith("2 jobs, 2 distinct, 2 done, 0 to run\n")


def table(cwd: Path) -> str:
    done = run_module("analysis", "table", "ablation", "runs", cwd=cwd, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def sweep_with_own_conf(cwd: Path, *words: str) -> str:
    line = ["--config-dir=conf", "-m", *SMALL, "harness.workers=1", *words]
    done = run_module("harness", *line, cwd=cwd, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_sweep_over_two_judges_trains_once_and_asks_both(tmp_path: Path) -> None:
    own = tmp_path / "conf" / "judge" / "loopback.yaml"
    own.parent.mkdir(parents=True)
    with serve(lambda *_: completion("B")) as server:  # in both orders: a draw everywhere
        own.write_text(f"defaults:\n  - endpoint\n  - _self_\nname: loopback\nbase_url: {server.url}\n")
        words = ["judge=reference,loopback", "stages=[train,generate,judge]", "train.max_steps=1", "tracking=disabled"]
        assert sweep_with_own_conf(tmp_path, *words).startswith("2 jobs, 2 distinct, 0 done, 2 to run\n")
        assert len(server.requests) == 16  # 8 instructions in both orders
        assert sweep_with_own_conf(tmp_path, *words).startswith("2 jobs, 2 distinct, 2 done, 0 to run\n")
        assert len(server.requests) == 16
    [folder] = [RunFolder(path) for path in (tmp_path / "runs").glob("tiny-*")]
    assert trainings(folder) == 1
    runs = load_runs(tmp_path / "runs")
    rates = dict(zip(runs.runs["judge"], runs.runs["judge/win_rate"], strict=True))
    assert set(rates) == {"reference", "loopback"}
    assert rates["loopback"] == 50
    shown = table(tmp_path)
    assert shown.count("judge=reference") == 1, shown
    assert shown.count("judge=loopback") == 1, shown
