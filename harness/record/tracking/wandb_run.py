"""W&B's run of one run folder: opening it, its charts, and its log files on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness.metrics.names import EPOCH, EVAL_LOSS, EXTREMES, GLOBAL_STEP, LEARNING_RATE
from harness.record.tracking.interface import TrackedRun

# The longest wait for an upload at the end of a run whose weights are uploaded.
_UPLOAD_S = 3600.0
# How much the log of a killed run may lack at its end; wandb's own 15 s can be a whole run of a small model.
_FLUSH_S = 1.0
# First parts of the names that are logged step by step.
_FAMILIES = ("train", "eval", "noise", "probe")
# Characters of a group's name.
_LONGEST = 128


def open_run(run: TrackedRun, mode: Literal["offline", "online"], patience_s: float) -> Any:
    """wandb.init, waiting at most `patience_s` seconds for a server, now and at the end of the run.

    Raises:
        wandb.errors.CommError: no answer in that time.
    """
    import wandb

    _list_packages_once()
    if mode == "offline":
        forget_earlier_attempts(run.root, run.run_id)
    opened = wandb.init(
        id=run.run_id,
        name=run.run_id,
        project=run.tracking.project,
        entity=run.tracking.entity,
        group=_within_limit(run.group),
        job_type=run.job_type,
        tags=run.tags,
        notes=run.notes,
        mode=mode,
        dir=str(run.root),
        config=run.settings,
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=patience_s,
            x_transaction_log_flush_interval=_FLUSH_S,
            finish_timeout=_UPLOAD_S if run.tracking.log_model else patience_s,
            finish_timeout_raises=True,
        ),
    )
    _define(opened)
    return opened


def _list_packages_once() -> None:
    """Let all runs of this process share one list of the installed packages (W&B's requirements.txt).

    wandb reads the metadata of every package at each start, which takes longer than a short training.
    """
    import wandb.util

    module: Any = wandb.util
    listing = module.working_set
    if not hasattr(listing, "cache_info"):
        module.working_set = cache(lambda: list(listing()))


def _define(run: Any) -> None:
    """Charts over train/global_step, as HF's Trainer has them; in the list of runs extremes of a few, the rest last.

    What is logged step by step and not named here stays out of that list: its last value is in the table of metrics.
    Every row has the step itself, so W&B need not add it (it would add 0 to rows of earlier versions).
    """
    run.define_metric(GLOBAL_STEP)
    for family in _FAMILIES:
        run.define_metric(f"{family}/*", step_metric=GLOBAL_STEP, step_sync=False, summary="none")
    for name in (LEARNING_RATE, EPOCH, EVAL_LOSS):
        run.define_metric(name, step_metric=GLOBAL_STEP, step_sync=False)
    for name, extreme in EXTREMES.items():
        run.define_metric(name, step_metric=GLOBAL_STEP, step_sync=False, summary=f"{extreme},last")


def _within_limit(text: str | None) -> str | None:
    """Shorten a text to W&B's 128 characters: its beginning, and a hash of the whole to keep it unique."""
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 11]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def isolate(root: Path) -> None:
    """Keep everything W&B writes below the output folder, and limit its waiting for a failing network."""
    root.mkdir(parents=True, exist_ok=True)
    for name, folder in (
        ("WANDB_DATA_DIR", "data"),
        ("WANDB_CACHE_DIR", "cache"),
        ("WANDB_CONFIG_DIR", "config"),
    ):
        os.environ.setdefault(name, str(root / "wandb" / folder))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def forget_earlier_attempts(root: Path, run_id: str) -> None:
    """Remove offline logs of earlier, interrupted attempts at this run: the new log replays what they held."""
    for folder in offline_logs(root, run_id):
        shutil.rmtree(folder)


def offline_logs(root: Path, run_id: str) -> list[Path]:
    return list((root / "wandb").glob(f"offline-run-*-{run_id}"))


def synced(log: Path) -> Path:
    """The file that marks a log as synced for `wandb sync`."""
    return log.with_name(f"{log.name}.synced")
