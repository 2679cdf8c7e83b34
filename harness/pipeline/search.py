"""A search by another sweeper than ours (Optuna's, say): the number that a run returns, and the search's last lines.

Hydra imports this module for the callback, so it imports nothing heavy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.experimental.callback import Callback

if TYPE_CHECKING:
    from harness.config import Config

RESULTS = "optimization_results.yaml"  # Optuna's sweeper writes it into hydra.sweep.dir


def objective_of(summary: Mapping[str, Any], config: Config) -> float:
    """The final number that harness.objective names.

    Raises:
        RunFailed: the run diverged, so that it has no number to compare.
        ValueError: there is no such number, which is so for every run of the search.
    """
    from harness.pipeline.plan import RunFailed

    name, final = str(config.harness.objective), summary["final"]
    if summary["status"] == "diverged":
        raise RunFailed(f"{summary['run_id']}: diverged, so it has no {name}")
    value = final.get(name)
    if value is None or not math.isfinite(value):
        whole, _, _ = name.partition("/")
        alike = sorted(each for each in final if each.startswith(f"{whole}/")) or sorted(final)
        raise ValueError(f"harness.objective={name}: {summary['run_id']} has no such number; it has {_some(alike)}")
    return float(value)


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class Closing(Callback):
    """Hydra callback: what a search found, and which command judges it on other instructions."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """Print it, where Optuna has written its results."""
        path = Path(config.hydra.sweep.dir).expanduser() / RESULTS
        if path.is_file():
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            print(closing(found, str(config.harness.objective), str(config.output_dir)), file=sys.stderr)


def closing(found: Mapping[str, Any], objective: str, output_dir: str) -> str:
    """The last lines of a search with the results of Optuna's sweeper."""
    chosen = " ".join(f"{key}={value}" for key, value in found["best_params"].items())
    value = found["best_value"]
    lines = [f"best: {chosen} with {objective} {value:.6g}"]
    if objective.startswith("selection/"):
        lines.append(
            f"it was chosen on half of the instructions; the other half: python -m analysis table {output_dir}"
        )
    return "\n".join(lines)
