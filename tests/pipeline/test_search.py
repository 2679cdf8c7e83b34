"""Searches by other sweepers than ours: the number a job returns, Optuna, W&B's agent, callbacks, local settings."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from support.commands import ROOT, SMALL, environment
from support.forked import run_module
from support.wandb_server import wandb_server
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from harness.config import parse
from harness.config.arguments import as_meant
from harness.config.compose import compose
from harness.config.messages import one_line
from harness.pipeline.plan import RunFailed, config_from
from harness.pipeline.search import closing, objective_of
from harness.record import RunFolder, read_json
from harness.record.objective import note_objective, read_objective

FINAL = {"eval/loss": 2.5, "selection/accuracy": 40.0, "judge/win_rate": float("nan")}
# Writes down what each job returned.
CALLBACK = """
from hydra.experimental.callback import Callback
class Returned(Callback):
    def on_job_end(self, config, job_return, **_):
        with open("returned.txt", "a") as file:
            print(repr(job_return.return_value), file=file)
"""


def command(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [*SMALL, "train.max_steps=1", "stages=[train,generate,judge]", "tracking=disabled", *arguments]
    return run_module("harness", *line, cwd=cwd, env=environment(cwd, NOISE_HARNESS_CACHE=str(cwd / "cache")))


def runs_of(folder: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted((folder / "runs").glob("*/done"))]


def searched(name: str) -> object:
    return config_from(compose([f"harness.objective={name}"]))


def test_the_objective_is_a_final_number():
    summary = {"run_id": "a", "status": "finished", "final": FINAL}
    assert objective_of(summary, searched("eval/loss")) == 2.5
    with pytest.raises(ValueError, match=r"harness\.objective=eval/los: a has no such number; it has eval/loss"):
        objective_of(summary, searched("eval/los"))
    with pytest.raises(ValueError, match="judge/win_rate: a has no such number"):
        objective_of(summary, searched("judge/win_rate"))
    with pytest.raises(RunFailed, match="a: diverged, so it has no eval/loss"):
        objective_of({**summary, "status": "diverged"}, searched("eval/loss"))


def test_an_objective_is_a_name_with_its_group():
    with pytest.raises(ValueError, match=r"harness\.objective"):
        searched("loss")
    assert parse(searched("eval/loss").model_dump(mode="json")).harness.objective == "eval/loss"


def test_the_half_for_choosing_stays_noted(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_objective(folder) == ""
    note_objective(folder, "eval/loss")
    note_objective(folder, "selection/accuracy")
    note_objective(folder, "eval/loss")
    assert read_objective(folder) == "selection/accuracy"


def test_the_last_lines_say_what_to_judge_it_by():
    found = {"best_params": {"alpha": 7.5}, "best_value": 41.25}
    assert closing(found, "eval/loss", "runs") == "best: alpha=7.5 with eval/loss 41.25"
    assert closing(found, "selection/win_rate", "here").endswith("the other half: python -m analysis table here")


def test_a_job_returns_its_number_to_callbacks_and_keeps_what_was_typed(tmp_path):
    (tmp_path / "mine.py").write_text(CALLBACK, encoding="utf-8")
    hook = "+hydra.callbacks.mine._target_=mine.Returned"
    result = command(tmp_path, "alpha=2", "harness.objective=selection/accuracy", hook)
    assert result.returncode == 0, result.stderr
    [run] = runs_of(tmp_path)
    final = read_json(run / "summary.json")["final"]
    assert (tmp_path / "returned.txt").read_text() == f"{final['selection/accuracy']!r}\n"
    typed = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    assert typed[-2:] == ["alpha=2", "harness.objective=selection/accuracy"]
    assert read_objective(run) == "selection/accuracy"

    # In our own sweep callbacks run as well, once for each job, and what the sweep adds is not what was typed.
    swept = command(tmp_path, "-m", "harness.workers=1", "alpha=2,3", "harness.objective=selection/accuracy", hook)
    assert swept.returncode == 0, swept.stderr
    assert len((tmp_path / "returned.txt").read_text().splitlines()) == 2
    kept = [yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text()) for run in runs_of(tmp_path)]
    assert all(not line.startswith(("harness.run_id", "tracking.group")) for typed in kept for line in typed)
    assert [typed[-2] for typed in kept] == ["alpha=2", "alpha=3"]


@pytest.mark.skipif(find_spec("optuna") is None, reason="the extra optuna is not installed")
def test_optuna_searches_alpha_and_goes_on_with_the_same_command(tmp_path):
    search = ["-m", "hparams_search=alpha", "noise=symnoise", "hydra.sweeper.n_trials=2", "eval_set.heldout=12"]
    result = command(tmp_path, *search)
    assert result.returncode == 0, result.stderr
    found = yaml.safe_load((tmp_path / "runs" / "optimization_results.yaml").read_text())
    runs = runs_of(tmp_path)
    numbers = [read_json(run / "summary.json") for run in runs]
    assert found["best_value"] == max(each["final"]["selection/accuracy"] for each in numbers)
    assert found["best_params"]["alpha"] in [each["alpha"] for each in numbers]
    assert all(0.5 <= each["alpha"] <= 50 for each in numbers)
    assert len({each["alpha"] for each in numbers}) == 2
    assert f"best: alpha={found['best_params']['alpha']} with selection/accuracy" in result.stderr

    again = command(tmp_path, *search)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("1 jobs, 1 distinct, 1 done, 0 to run") + again.stderr.count("1 done, 0 to run") == 2
    assert [run.path for run in runs_of(tmp_path)] == [run.path for run in runs]


def test_a_sweeper_that_is_not_installed_names_its_extra():
    missing = ValueError("In 'hydra/config': Could not find 'hydra/sweeper/optuna'\n\nAvailable options: basic")
    assert one_line(missing) == "hydra/sweeper=optuna: not installed (pip install 'noise-harness[optuna]')"


@pytest.mark.skipif(find_spec("optuna") is None, reason="the extra optuna is not installed")
def test_a_search_for_a_number_that_runs_do_not_have_ends_after_one(tmp_path):
    search = ["-m", "hparams_search=alpha", "stages=[train]", "harness.objective=selection/accuracy"]
    result = command(tmp_path, *search)
    assert result.returncode == 2
    assert "error: harness.objective=selection/accuracy: tiny-" in result.stderr
    assert len(runs_of(tmp_path)) == 1
    planned = command(tmp_path, *search, "harness.dry_run=true", "seed=1")
    assert planned.returncode == 2
    assert "error: harness.dry_run: a search has no plan" in planned.stderr


def test_settings_as_an_agent_of_wandb_writes_them():
    """The command of docs/how-to/search-alpha.md, and the form that an agent takes without one."""
    text = (ROOT / "docs" / "how-to" / "search-alpha.md").read_text(encoding="utf-8")
    sweep = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    given = create_sweep_command_args({"args": {"alpha": {"value": 7.25}, "noise": {"value": "symnoise"}}})
    line = [word for part in create_sweep_command(sweep["command"]) for word in given.get(part[2:-1], [part])]
    words = line[line.index("harness") + 1 :]
    config = config_from(compose(as_meant(words)))
    assert (config.alpha, config.noise.name, config.tracking.mode) == (7.25, "symnoise", "online")
    assert config.harness.objective == sweep["metric"]["name"]
    assert as_meant(given["args"]) == ["alpha=7.25", "noise=symnoise"]
    assert as_meant(["--config-dir=mine", "--cfg", "job"]) == ["--config-dir=mine", "--cfg", "job"]


@pytest.mark.slow
def test_wandbs_own_agent_starts_the_documented_command(tmp_path):
    """`wandb agent`, the real one, on a server of this machine that proposes two alphas."""
    text = (ROOT / "docs" / "how-to" / "search-alpha.md").read_text(encoding="utf-8")
    sweep = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    sweep["command"] = [*sweep["command"][:-1], *SMALL, "train.max_steps=1", "probe.examples=2", sweep["command"][-1]]
    folder = Path(sys.executable).parent
    with wandb_server() as server:
        server.sweep, server.proposals = yaml.safe_dump(sweep), [{"alpha": 7.25}, {"alpha": 2.5}]
        keys = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": server.api_key, "NETRC": str(tmp_path / "netrc")}
        given = environment(**keys, PATH=f"{folder}:/usr/bin:/bin", NOISE_HARNESS_CACHE=str(tmp_path / "cache"))
        line = [sys.executable, "-m", "wandb", "agent", "team/noise-harness/abc"]
        result = subprocess.run(line, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    runs = runs_of(tmp_path)
    assert [read_json(run / "summary.json")["alpha"] for run in runs] == [2.5, 7.25], result.stderr
    assert [read_objective(run) for run in runs] == ["selection/accuracy"] * 2
    # W&B's server knows them under the names that it gave out, with what it needs to choose the next.
    stored = {name: run for (_, name), run in server.runs.items()}
    assert set(stored) == {"sweep-run-1", "sweep-run-2"}
    assert all(run.state == "finished" for run in stored.values())
    assert all(sweep["metric"]["name"] in run.summary for run in stored.values())


def test_a_machines_own_settings_are_taken_up_where_there_are_some(tmp_path):
    (tmp_path / "local").mkdir()
    text = "# @package _global_\noutput_dir: elsewhere\ntracking: {entity: our-team}\n"
    (tmp_path / "local" / "default.yaml").write_text(text, encoding="utf-8")
    line = [sys.executable, "-m", "harness", "--cfg", "job", "--config-dir", str(tmp_path), "alpha=3"]
    shown = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True).stdout
    found = yaml.safe_load(shown)
    assert (found["output_dir"], found["tracking"]["entity"], found["alpha"]) == ("elsewhere", "our-team", 3)
    assert "/conf/local/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
