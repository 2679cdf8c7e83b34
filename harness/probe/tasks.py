"""Which tasks of the lm-evaluation-harness are asked for, checked before a run starts."""

from __future__ import annotations

import importlib.util
from typing import Any

from harness.config import BenchmarksConfig
from harness.identity import resolve_path


def check_benchmarks(settings: BenchmarksConfig) -> None:
    """Refuse what could not run, before anything starts.

    Raises:
        ValueError: lm-eval is not installed, include_path is missing, or it knows no task of a name.
    """
    if not settings.tasks:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError("probe.benchmarks.tasks: needs the extra `eval`: pip install 'noise-harness[eval]'")
    manager = task_manager(settings)
    unknown = [name for name in settings.tasks if name not in manager.all_tasks]
    if unknown:
        raise ValueError(f"probe.benchmarks.tasks: lm-eval knows no {', '.join(unknown)} (lm-eval ls tasks lists all)")


def task_manager(settings: BenchmarksConfig) -> Any:
    """lm-eval's own tasks and those of include_path."""
    folder = None if settings.include_path is None else str(resolve_path(settings.include_path))
    from lm_eval.tasks import TaskManager  # imports torch, and reads the names of all tasks

    return TaskManager(include_path=folder)
