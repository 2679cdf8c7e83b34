"""The command as a user types it: bad input is one line and nothing is written; sweeps plan before they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.commands import SMALL, environment, harness, judge_down_at_first

from harness.config.arguments import as_meant, version
from harness.config.messages import one_line

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["noise=loud"], "Could not find 'noise/loud' Available options in 'noise': bernoulli"),
        (["alfa=3"], "alfa: there is no such key (did you mean alpha?)"),
        (["dataset.clean.rolez=drop"], "dataset.clean.rolez: there is no such key (did you mean dataset.clean.roles"),
        (["alpha=1,5"], "alpha=1,5: several values need a sweep; add -m"),
        (["lr=1e-3"], "lr: there is no such key (did you mean train.lr?)"),
        (["train.learning_rate=1e-3"], "train.learning_rate: there is no such key (did you mean train.lr?)"),
        (["stages=judge"], "stages=judge: must be a list, even of one value: stages=[judge]"),
        (["seed=range(3)"], "need a sweep; add -m (python -m harness -m 'seed=range(3)' ...)"),
        (["noise=none,", "neftune"], "values are listed without spaces: noise=none,neftune"),
        (["-m", "alpha=1,-5"], "alpha=-5: input should be greater than or equal to 0"),
        (
            ["-m", "noise=neftune,symnoise", "dataset=alpaca", "dataset.path=gone.json"],
            "gone.json: no such file",
        ),
        (["model.path=gone", "model.architecture=null"], "path=gone: no such file or folder"),
        (
            ["-m", "seed=0,1", "dataset.prompt=vicuna"],
            "dataset.prompt='vicuna': input should be 'alpaca', 'vicuna",
        ),
        (
            ["-m", "seed=0,1", "dataset=openplatypus", "offline=true"],
            ".cache/huggingface/hub and offline is set; where there is a network: hf download --repo",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, tmp_path):
    result = harness(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_grid_with_the_baseline_plans_21_of_27_and_writes_nothing(tmp_path):
    grid = ["noise=none,symnoise,neftune", "alpha=1,5,10", "seed=range(3)"]
    result = harness("-m", *grid, "harness.dry_run=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("27 jobs, 21 distinct, 0 done, 21 to run\n")
    assert len(result.stderr.splitlines()) == 22
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_switch_may_stand_anywhere_and_usage_names_the_command():
    assert as_meant(["noise=none", "-m", "alpha=1,5"]) == ["-m", "noise=none", "alpha=1,5"]
    assert as_meant(["alpha=1", "seed=2"]) == ["alpha=1", "seed=2"]
    assert as_meant(["--multirun", "--cfg", "job"]) == ["--multirun", "--cfg", "job"]
    assert version().startswith("noise-harness ")


def test_usage_is_that_of_the_command(tmp_path):
    result = harness("--nonsense", cwd=tmp_path)
    assert result.stderr.startswith("usage: python -m harness ")


def test_a_broken_yaml_is_one_line_with_file_and_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n  pair: [\n")
    with pytest.raises(yaml.YAMLError) as broken, open(file, encoding="utf-8") as stream:
        yaml.safe_load(stream)
    assert one_line(broken.value) == f"{file}: line 2: mapping values are not allowed here"


def test_help_names_groups_keys_and_an_example(tmp_path):
    result = harness("run", "--help", cwd=tmp_path)
    assert result.returncode == 0
    for text in (
        "python -m harness -m noise=symnoise,neftune alpha=1,5,10",
        "symnoise_matched",
        "symnoise_relative",
        "max_grad_norm: 1.0",
    ):
        assert text in result.stdout


def test_nothing_heavy_is_imported_to_plan():
    code = (
        "import sys; sys.argv = ['harness', '-m', 'alpha=1,5', 'harness.dry_run=true']\n"
        "from harness.cli import main; main()\n"
        "heavy = {'torch', 'transformers', 'wandb', 'pandas', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_hydras_own_switch_adds_the_traceback_and_keeps_the_status(tmp_path):
    command = [sys.executable, "-m", "harness", "alpha=-1"]
    env = environment(HYDRA_FULL_ERROR="1")
    asked = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert asked.stderr.startswith("Traceback (most recent call last):")
    assert asked.stderr.splitlines()[-1] == "error: alpha=-1: input should be greater than or equal to 0"


def test_a_failed_sweep_has_its_status_with_hydras_switch_too(tmp_path):
    words = [*SMALL, *judge_down_at_first(tmp_path), "stages=[train,generate,judge]", "tracking=disabled"]
    command = [sys.executable, "-m", "harness", "-m", *words, "noise=none", "seed=0,1", "harness.workers=1"]
    env = environment(tmp_path, HYDRA_FULL_ERROR="1")
    asked = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "Traceback" in asked.stderr
    assert asked.stderr.splitlines()[-1] == "error: 1 of 2 runs failed; repeat the command to continue them"


def test_one_line_has_no_line_breaks():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError()) == "KeyError"
