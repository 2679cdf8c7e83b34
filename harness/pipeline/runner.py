"""The order of the stages, and what happens around them: lock, provenance, log, failure, summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from harness.config import STAGES, Config
from harness.context import Job, Run
from harness.metrics.names import with_current_names
from harness.pipeline.capacity import computing_threads
from harness.pipeline.plan import RunFailed, job_of, pending_stages
from harness.pipeline.stages import gpus_of, work_of
from harness.probe.observers import observers
from harness.record import RunFolder, read_json, read_mapping, write_json, write_text
from harness.record.failure import record_failure
from harness.record.identity import file_fingerprints
from harness.record.objective import note_objective
from harness.record.provenance import changes, provenance, with_history
from harness.record.tracking import Tracker
from harness.record.variants import drop_repeated, keep_results, kept, tracking_id
from harness.system.gpus import take_gpus
from harness.system.nodes import node_rank
from harness.system.progress import summary_line
from harness.system.signals import Interrupted, stoppable


def execute(config: Config) -> dict[str, Any]:
    """Do what is left of the run with these settings; a launcher may have sent it to another machine.

    Raises:
        ValueError: the settings are not those that were planned.
        RunFailed: as `run_job`.
    """
    job, planned = job_of(config), config.harness.run_id
    if planned not in (None, job.run_id):
        raise ValueError(f"planned as {planned} but now {job.run_id}: settings or data changed since")
    return run_job(job)


def run_job(job: Job) -> dict[str, Any]:
    """Do what is left of one run and return its summary.

    Raises:
        RunFailed: a stage failed; the traceback is in the run's log.txt, the reason in `failed`.
    """
    config, folder = job.config, job.folder
    if config.train.nodes > 1 and node_rank() > 0:
        from harness.pipeline.torchrun import assist

        return assist(job)
    with folder.locked(), computing_threads(config), stoppable() as stop:
        pending = pending_stages(job)  # another command may have done some of it since the plan
        if not pending:
            done = kept(folder, job.fingerprints, config.stages) or folder
            _note_search(done, config)
            return read_mapping(done / "summary.json")
        take_gpus(gpus_of(config, pending), config.harness.runs_per_gpu, folder.log)  # before anything starts CUDA
        _open(job, pending)
        run = Run(
            job, Tracker(config, tracking_id(folder, job.fingerprints), folder), stop=stop, observers=observers(config)
        )
        try:
            started = time.monotonic()
            _run_stages(run, pending)
            summary = _close(run)
            print(summary_line(run.short_label, summary, time.monotonic() - started), file=sys.stderr)
            _note_search(folder, config)
            return summary
        except Exception as error:
            reason = record_failure(folder, error, config)
            run.tracker.abort(reason)
            raise RunFailed(f"{job.run_id}: {reason} (traceback in {folder / 'log.txt'})") from error
        finally:
            run.tracker.abort()


def _note_search(folder: RunFolder, config: Config) -> None:
    if config.harness.objective is not None:
        note_objective(folder, config.harness.objective)


def _run_stages(run: Run, pending: list[str]) -> None:
    for stage in (stage for stage in pending if stage in STAGES):
        run.folder.log(f"{stage}: starts")
        started = time.monotonic()
        try:
            result = work_of(stage, run.config).run(run)
            run.stop.check()  # before the stage counts: what swallowed the signal may have been a half-done import
        except KeyboardInterrupt as stop:
            raise Interrupted(str(stop) or f"interrupted in the stage {stage}") from None
        seconds = time.monotonic() - started
        fingerprint = run.job.fingerprints[stage]
        run.folder.complete(stage, fingerprint, seconds, result.status, result.metrics, result.labels, result.files)
        run.folder.log(f"{stage}: {result.status} in {seconds:.1f} s")
        if result.status != "finished":
            return


def _open(job: Job, pending: Sequence[str]) -> None:
    """Record settings and provenance; for a continued run, also what has changed since its last start."""
    folder, config = job.folder, job.config
    keep_results(folder, job.fingerprints, config.stages)
    write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    now = {**provenance(config.harness.keep_diff), "stages": list(pending), "files": file_fingerprints(config)}
    if not any(line.startswith("run_id=") for line in config.harness.overrides):
        (folder / ".hydra").mkdir(exist_ok=True)  # where Hydra's users and tools look
        write_text(folder / ".hydra" / "overrides.yaml", yaml.safe_dump(config.harness.overrides))
    earlier = _earlier_start(folder)
    for line in changes(earlier, now) if earlier else ():
        folder.log(f"changed since the last start: {line}")
        print(f"{job.run_id}: changed since its last start: {line}", file=sys.stderr)
    write_json(folder / "provenance.json", with_history(earlier, now))
    for marker in ("failed", "done"):
        (folder / marker).unlink(missing_ok=True)


def _earlier_start(folder: RunFolder) -> dict[str, Any] | None:
    path = folder / "provenance.json"
    try:
        found = read_json(path) if path.exists() else None
    except ValueError as error:
        folder.log(f"the provenance of earlier starts is lost: {error}")
        return None
    return found if isinstance(found, dict) else None


def _close(run: Run) -> dict[str, Any]:
    """Write summary.json, send the final numbers to W&B, and mark the run as done, in this order."""
    summary = _summary(run)
    write_json(run.folder / "summary.json", summary)
    run.tracker.finish(summary["final"], summary["status"])
    if not run.config.train.keep_model:
        run.folder.remove_tree("model")
    write_text(run.folder / "done", f"{summary['status']}\n")
    drop_repeated(run.folder)
    return summary


def _summary(run: Run) -> dict[str, Any]:
    config, stages = run.config, run.folder.stages()
    final: dict[str, float] = {}
    labels: dict[str, str] = {}
    for stage in (stage for stage in STAGES if stage in stages):
        final |= with_current_names(stages[stage]["figures"]) | {f"{stage}/seconds": stages[stage]["seconds"]}
        labels |= stages[stage].get("labels", {})
    diverged = any(entry["status"] == "diverged" for entry in stages.values())
    return {
        "run_id": run.run_id,
        "status": "diverged" if diverged else "finished",
        "model": config.model.name,
        "dataset": config.dataset.name,
        "eval_set": config.eval_set.name,
        "noise": config.noise.name,
        "alpha": config.alpha,
        "seed": config.seed,
        "judge": config.judge.name,
        **labels,
        "experiment": config.experiment,
        "group": config.tracking.group,
        "final": final,
    }
