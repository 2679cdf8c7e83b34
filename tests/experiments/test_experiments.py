"""Every file of conf/experiment: its whole sweep composes and passes the schema, and a run of one step goes through.

The sweeps that the lab book (experiments/) declares compose, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import environment
from support.forked import run_module
from support.runs import folder_of
from support.sweeps import sweeping

from analysis.figures import FIGURES
from analysis.tables.layouts import LAYOUTS
from harness.config import Config
from harness.config.paths import conf_dir
from harness.pipeline.runner import execute

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.parent.name for path in ROOT.glob("experiments/*/study.yaml"))
NAMES = sorted(path.stem for path in conf_dir().glob("experiment/*.yaml"))
# What the README promises to run, cut down to one step and one instruction.
SMALL = [
    *("model=tiny", "dataset=builtin", "train=quick"),
    *(f"model.architecture.{size}" for size in ("hidden_size=16", "layers=1", "heads=2", "intermediate_size=16")),
    *("dataset.size=24", "dataset.heldout=2", "eval_set.heldout=2", "eval_set.unseen=0", "generate.max_new_tokens=2"),
    *("train.max_steps=1", "train.epochs=null", "train.batch_size=12", "tracking=disabled"),
]


@pytest.fixture(scope="module")
def sweep() -> Iterator[Any]:
    """sweep(arguments) -> the jobs' overrides and a function that composes one, by the sweeper that Hydra makes."""
    with sweeping() as jobs:
        yield jobs


def corners(jobs: list[list[str]]) -> list[list[str]]:
    """Jobs that show every value of every key once: the grid's choices do not depend on each other."""
    columns = [list(dict.fromkeys(column)) for column in zip(*jobs, strict=True)]
    rows = zip_longest(*columns)
    return [[value or column[0] for value, column in zip(row, columns, strict=True)] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_sweep_passes_the_schema(name: str, sweep: Any) -> None:
    jobs, compose = sweep(f"experiment={name}")
    assert len(jobs) > 1
    configs: list[Config] = [compose(job) for job in (jobs if len(jobs) <= 12 else corners(jobs))]
    assert {config.experiment for config in configs} == {name}
    assert any(config.noise.name == "none" for config in configs)  # nothing is shown without its baseline


@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_it_runs_small(name: str, sweep: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    shared = tmp_path_factory.getbasetemp() / "experiments"  # experiments share runs: each is done once
    own_data = name == "first_language_modelling"  # generated text, small as it is
    small = [line for line in SMALL if line != "dataset=builtin" or not own_data]
    jobs, compose = sweep(f"experiment={name}", *small, f"output_dir={shared}")
    config = compose(jobs[-1])
    assert config.dataset.name == ("builtin_text" if own_data else "builtin")
    assert (config.stages == ["train"]) == (name in ("overhead", "first_language_modelling"))
    stages = [stage for stage in config.stages if stage != "probe"]  # that takes seconds
    config = config.model_copy(update={"stages": stages})
    execute(config)
    done = folder_of(config).stages()
    assert set(config.stages) <= set(done)
    assert done["train"]["figures"]["eval/loss"] > 0


def test_the_command_of_the_readme_plans_the_whole_table(tmp_path: Path) -> None:
    arguments = ["experiment=symnoise_table3", "model=tiny", "dataset=builtin", "train=quick", "harness.dry_run=true"]
    for multirun in (["-m"], []):
        result = run_module("harness", *multirun, *arguments, cwd=tmp_path, env=environment())
        assert result.returncode == 0, result.stderr
        first, second, *_ = result.stderr.splitlines()
        assert first == "dataset=builtin also sets eval_set=builtin judge=reference probe=default"
        # None, and four kinds of noise at three alphas.
        assert second == "15 jobs, 13 distinct, 0 done, 13 to run"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_lab_book_passes_the_schema(name: str, sweep: Any) -> None:
    study = yaml.safe_load((ROOT / "experiments" / name / "study.yaml").read_text("utf-8"))
    configs = []
    for line in study["sweeps"]:
        jobs, compose = sweep(*line, *study.get("common", ()), "hydra.mode=MULTIRUN")
        configs += [compose(job) for job in corners(jobs)]
    assert any(config.noise.name == "none" for config in configs)
    tables = {table if isinstance(table, str) else table["name"] for table in study["tables"]}
    assert tables <= {*LAYOUTS, "custom"}
    assert set(study.get("figures", ())) <= set(FIGURES)


def test_named_groups_stay_as_named(sweep: Any) -> None:
    from hydra_plugins.harness_sweeper.sweeper import builtin_tasks

    assert builtin_tasks(["noise=none", "dataset=builtin"]) == []
    assert builtin_tasks(["experiment=epochs", "dataset=alpaca"]) == []
    given = ["experiment=epochs", "dataset=builtin", "judge=similarity"]
    assert builtin_tasks(given) == ["eval_set=builtin", "probe=default"]
    # Of several data sets the builtin one alone.
    jobs, compose = sweep("experiment=epochs", "dataset=builtin,alpaca", "noise=none", "train.epochs=1")
    assert [compose(job).judge.name for job in jobs] == ["reference", "open_32b"]


def test_the_page_lists_every_experiment_with_a_table_that_exists() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", page, flags=re.MULTILINE))
    assert sorted(rows) == NAMES
    assert set(rows.values()) <= {*LAYOUTS, "custom"}
    for name in {*NAMES} & {*LAYOUTS}:
        assert rows[name] == name
