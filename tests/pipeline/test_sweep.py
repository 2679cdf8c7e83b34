"""Whole sweeps as a user runs them."""

from __future__ import annotations

import json
import re
from datetime import date

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from support.commands import judge_down_at_first, sweep

from harness.config.compose import prepare_hydra
from harness.config.paths import conf_dir
from harness.record import RunFolder, read_json

JUDGED = ["stages=[train,generate,judge]", "tracking=disabled"]


def test_a_sweep_runs_logs_each_run_apart_and_is_skipped_the_second_time(tmp_path):
    grid = ["noise=none,symnoise", "alpha=1,5", "train.max_steps=2"]
    first = sweep(tmp_path, *grid)
    assert first.returncode == 0, first.stderr
    assert first.stderr.startswith("4 jobs, 3 distinct, 0 done, 3 to run\n")
    runs = [path for path in (tmp_path / "runs").iterdir() if path.name != "wandb" and path.is_dir()]
    assert {(path / "done").read_text() for path in runs} == {"finished\n"}
    logs = sorted((tmp_path / "runs" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert sorted(log.stem.removeprefix("run-") for log in logs) == sorted(path.name for path in runs)
    groups = {read_json(path / "summary.json")["group"] for path in runs}
    assert len(groups) == 1
    assert re.fullmatch(rf"none,symnoise x alpha 1,5 - {date.today().isoformat()} [0-9a-f]{{4}}", groups.pop())

    second = sweep(tmp_path, *grid)
    assert second.returncode == 0
    assert second.stderr.startswith("4 jobs, 3 distinct, 3 done, 0 to run\n")


def test_a_failing_run_does_not_stop_the_others(tmp_path):
    result = sweep(tmp_path, *judge_down_at_first(tmp_path), "seed=0,1", "train.max_steps=1", *JUDGED)
    assert result.returncode == 1
    assert "error: 1 of 2 runs failed; repeat the command to continue them" in result.stderr
    assert "the service is down" in result.stderr
    states = sorted("done" if (path / "done").exists() else "failed" for path in (tmp_path / "runs").glob("tiny-*"))
    assert states == ["done", "failed"]
    failed = next(path for path in (tmp_path / "runs").glob("tiny-*") if (path / "failed").exists())
    assert json.loads((failed / "failed").read_text())["type"] == "ValueError"
    assert "Traceback" in (RunFolder(failed) / "log.txt").read_text()


def test_data_that_cannot_be_learnt_stop_the_sweep_before_its_first_run(tmp_path):
    result = sweep(tmp_path, "dataset.max_length=512,20", "train.max_steps=1", "tracking=disabled")
    assert result.returncode == 2
    assert "dataset.max_length=20 leaves nothing to learn" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("empty", ["seed=range(0,-1)", "alpha=glob(*)"])
def test_a_sweep_over_no_value_is_refused(empty, tmp_path):
    result = sweep(tmp_path, empty, "noise=none,neftune")
    assert (result.returncode, result.stderr) == (2, f"error: {empty}: holds no value, so that the sweep has no job\n")


def test_runs_of_a_sweep_tokenise_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))
    grid = ["noise=symnoise,neftune", "alpha=1,5", "train.max_steps=1", "stages=[train]", "tracking=disabled"]
    result = sweep(tmp_path, *grid)
    assert result.returncode == 0, result.stderr
    (entry,) = (tmp_path / "cache" / "tokens").glob("*.safetensors")
    assert result.stderr.count(f"data: tokens: made, {entry}\n") == 1
    logs = [path.read_text() for path in (tmp_path / "runs").glob("*/log.txt")]
    assert len(logs) == 4
    assert all(log.count(f"data: tokens in {entry}\n") == 1 for log in logs)
    again = sweep(tmp_path, *grid, "output_dir=again")
    assert again.stderr.count(f"data: tokens: from the cache, {entry}\n") == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["noise=symnoise", "alpha=3", "seed=4"],
        ["model=smollm2_135m", "train=finetune", "train.lr=1e-3"],
        ["~train.name", "alpha=1"],
    ],
    ids=" ".join,
)
def test_jobs_composed_fast_equal_hydras_own(overrides):
    prepare_hydra()
    from hydra.types import RunMode
    from hydra_plugins.harness_sweeper.composer import Composer

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        fast = Composer(loader, master).compose(overrides)
        reference = loader.load_sweep_config(master, overrides)
    del reference.hydra
    assert OmegaConf.to_container(OmegaConf.create(fast)) == OmegaConf.to_container(reference)


NAMES = [
    "lr 1e-4, bs=8",
    "Läufe",
    "a (b)",
    "2024",
    "null",
    "true",
    "it's",
    "end\\",
    "a\\'b",
    "${x}",
    "\\${x}",
    "\\\\${x}",
    "",
    "{a: 1}",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_group_name_reaches_the_job_as_it_is(name):
    prepare_hydra()
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra_plugins.harness_sweeper.sweeper import quoted

    override = OverridesParser.create().parse_override(f"tracking.group={quoted(name)}")
    config = OmegaConf.create({"tracking": {"group": None}})
    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    assert OmegaConf.to_container(config, resolve=True) == {"tracking": {"group": name}}


def test_a_sweep_with_a_group_of_many_signs_and_long_names(tmp_path):
    names = [f"model.name={'m' * 60}", "dataset.name=builtin", f"noise.name={'n' * 60}"]
    group = "lr 1e-4, bs=8 (ä), " + "x" * 120
    result = sweep(tmp_path, *names, f"tracking.group='{group}'", "seed=0", "train.max_steps=1")
    assert result.returncode == 0, result.stderr
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name.startswith("mmm"))
    assert read_json(run / "summary.json")["group"] == group
    assert len(run.name) == 100
    assert len(list((tmp_path / "runs" / "wandb").glob(f"offline-run-*-{run.name}/run-*.wandb"))) == 1


def test_more_devices_than_the_machine_has_are_refused_before_anything_starts(tmp_path):
    for command in (["train.devices=9999"], ["seed=0,1", "train.devices=9999"]):
        result = sweep(tmp_path, *command, "train.max_steps=1", "tracking=disabled")
        assert result.returncode == 2
        assert "error: train.devices=9999: this machine has " in result.stderr
    assert not (tmp_path / "runs").exists()
