"""The two faces of every stage, by its name: `harness.STAGE.checks`, before anything starts, and `harness.STAGE.stage`.

A stage is added in three places: its package with these two modules, its name and section in harness/config/run.py,
and what its output depends on in harness/record/identity.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

from harness.config import STAGES, Config
from harness.context import Job, Run, StageResult
from harness.record.tracking import check_tracker


class Checks(Protocol):
    """The light face; it imports what a check needs only when the check runs."""

    def check(self, config: Config) -> None:
        """Check the settings against what is available: files, packages, environment.

        Raises:
            ValueError: the first problem, naming file, row, key and value.
        """

    def prepare(self, jobs: Sequence[Job]) -> list[str]:
        """Checks between the plan and the first run, when tokenizers and small downloads are available.

        Args:
            jobs: all jobs that the command will run, in order; it concerns those with this stage pending.

        Returns:
            What was read and made, one line each.

        Raises:
            ValueError: a problem that would otherwise fail a run after its training.
        """


class Work(Protocol):
    """The heavy face."""

    def run(self, run: Run) -> StageResult:
        """Do the stage and leave its files in the run's folder."""


def checks_of(stage: str) -> Checks:
    """The checks of a stage."""
    return cast(Checks, importlib.import_module(f"harness.{stage}.checks"))


def work_of(stage: str, config: Config) -> Work:
    """The work of a stage: its own module, or torchrun if several processes train or answer."""
    if stage == "train" and config.train.several:
        from harness.pipeline.torchrun import Stage

        return Stage.train(config.train)
    if stage == "generate" and config.generate.backend != "vllm":  # which starts its own processes
        from harness.generate.ranks import processes

        if (several := processes(config)) > 1:
            from harness.pipeline.torchrun import Stage

            return Stage("generate", several)
    return cast(Work, importlib.import_module(f"harness.{stage}.stage"))


def gpus_of(config: Config, stages: Sequence[str]) -> int | None:
    """GPUs that the most demanding of these stages uses; None: all visible ones.

    A run trained on eight GPUs may be judged and probed where there is one, and answer on as many as there are.
    """
    wanted: list[int | None] = [1]
    if "train" in stages:
        wanted.append(None if config.train.devices == "auto" or config.train.nodes > 1 else config.train.devices)
    if "generate" in stages:
        from harness.generate.ranks import processes
        from harness.system.gpus import reachable_gpus

        wanted.append(processes(config, len(reachable_gpus())))
    counts = [each for each in wanted if each is not None]
    return None if len(counts) < len(wanted) else max(counts)


def check(config: Config) -> None:
    """Check one run's settings against what its stages will need.

    Raises:
        ValueError: the first problem of the first stage that has one, or no tracker.
    """
    check_tracker(config)
    for stage in (stage for stage in STAGES if stage in config.stages):
        checks_of(stage).check(config)


def prepare(jobs: Sequence[Job]) -> list[str]:
    """Tokenize training data and prompts of the jobs, and check judges against their inputs.

    Returns:
        What was read, cleaned and tokenized, one line each; the runs find it in the cache.

    Raises:
        ValueError: as the stages' `prepare`.
    """
    pending = {stage for job in jobs for stage in job.pending}
    lines = (line for stage in STAGES if stage in pending for line in checks_of(stage).prepare(jobs))
    return list(dict.fromkeys(lines))
