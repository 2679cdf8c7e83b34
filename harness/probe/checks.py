"""Checks of the probes before training: data, base model, tasks of the lm-evaluation-harness."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from harness.config import BenchmarksConfig, Config
from harness.config.paths import resolve_path
from harness.context import Job
from harness.data import check_dataset
from harness.models.checks import check_model
from harness.system.packages import require_package


def check(config: Config) -> None:
    """Check the data, the base model (weights are compared with it) and the benchmarks.

    Raises:
        ValueError: as `check_model`, `load_dataset` and `check_benchmarks`.
    """
    check_model(config.model, fetch=not config.harness.dry_run)
    check_dataset(config)
    check_benchmarks(config.probe.benchmarks)


def prepare(jobs: Sequence[Job]) -> list[str]:
    """Fetch the benchmarks of models that are still to be trained.

    Raises:
        ValueError: as `fetch_benchmarks`.
    """
    seen: list[BenchmarksConfig] = []
    for job in jobs:
        if {"train", "probe"} <= set(job.pending) and job.config.probe.benchmarks not in seen:
            seen.append(job.config.probe.benchmarks)
            fetch_benchmarks(seen[-1])
    return []


def check_benchmarks(settings: BenchmarksConfig) -> None:
    """Refuse benchmarks that could not run, before anything starts.

    Raises:
        ValueError: lm-eval is not installed, include_path is missing, or it knows no task of a name.
    """
    if not settings.tasks:
        return
    require_package("lm_eval", "probe.benchmarks.tasks", "eval")
    manager = task_manager(settings)
    unknown = [name for name in settings.tasks if name not in manager.all_tasks]
    if unknown:
        raise ValueError(f"probe.benchmarks.tasks: lm-eval knows no {', '.join(unknown)} (lm-eval ls tasks lists all)")


def fetch_benchmarks(settings: BenchmarksConfig) -> None:
    """Load all tasks with their data and metrics, as the probes will; downloads happen now.

    Raises:
        ValueError: data, a metric or a package of a task is not available, or it executes the model's code and
            probe.benchmarks.run_code is false.
    """
    if not settings.tasks:
        return
    allow_code(settings)
    manager = task_manager(settings)
    for name in settings.tasks:
        try:
            tasks = manager.load([name])["tasks"]
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"probe.benchmarks.tasks: {name} cannot be read: {type(error).__name__}: {reason}"
            ) from error
        unsafe = sorted(found for found, task in tasks.items() if getattr(task, "UNSAFE_CODE", False))
        if unsafe and not settings.run_code:
            raise ValueError(
                f"probe.benchmarks.run_code=false, but {', '.join(unsafe)} executes what the model writes; "
                "set it to true in a sandbox"
            )


def allow_code(settings: BenchmarksConfig) -> None:
    """Set what lm-eval's metric `code_eval` requires, if the settings allow it."""
    if settings.run_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"


def task_manager(settings: BenchmarksConfig) -> Any:
    """lm-eval's own tasks and those of include_path."""
    folder = None if settings.include_path is None else str(resolve_path(settings.include_path))
    from lm_eval.tasks import TaskManager  # imports torch, and reads the names of all tasks

    return TaskManager(include_path=folder)
