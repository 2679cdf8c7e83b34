"""How a run is laid out in any tracker: its settings, group, tags, and the final numbers that a list of runs shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config import Config
from harness.metrics.names import SUMMARY
from harness.record.folder import RunFolder
from harness.record.identity import file_fingerprints
from harness.record.tracking.interface import Result, TrackedRun
from harness.record.tracking.tables import tables_of

# Version of this layout, for readers; in the one before, the settings were under "run" and there was no number.
SCHEMA_VERSION = 2
# Longest tag that W&B accepts.
_LONGEST_TAG = 64


def tracked_run(config: Config, run_id: str, folder: RunFolder) -> TrackedRun:
    """One run as a tracker shows it."""
    ours = {"schema_version": SCHEMA_VERSION, "files": file_fingerprints(config)}
    return TrackedRun(
        run_id,
        folder,
        Path(config.output_dir).expanduser().resolve(),
        config.tracking,
        settings={**config.model_dump(mode="json"), **ours},
        group=config.tracking.group,
        job_type="train" if "train" in config.stages else "eval",
        tags=_tags(config),
        notes=config.tracking.notes,
    )


def result_of(config: Config, folder: RunFolder, final: dict[str, Any], status: str) -> Result:
    """How a run ended, as a tracker shows it: few numbers in the summary, every number and text in tables."""
    wanted = (*SUMMARY, config.harness.objective)  # what a search asks for, W&B's sweeps read there
    summary = {name: final[name] for name in wanted if name in final}
    tables = tables_of(folder, final)
    model = folder / "model"
    if config.tracking.log_model == "end" and model.is_dir():
        return Result(summary, tables, status, model, _aliases(config))
    return Result(summary, tables, status)


def _tags(config: Config) -> tuple[str, ...]:
    names = [config.model.name, config.dataset.name, config.noise.name, config.experiment, *config.tracking.tags]
    return tuple(dict.fromkeys(name[:_LONGEST_TAG] for name in names if name))


def _aliases(config: Config) -> tuple[str, ...]:
    """ "end", "symnoise-a5", "s0": aliases that distinguish the weights of a sweep."""
    noise = f"{config.noise.name}-a{config.alpha:g}" if config.alpha else config.noise.name
    return ("end", noise, f"s{config.seed}")
