"""What a command will do, known before it starts: every job checked, duplicates dropped, finished runs skipped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config import Config, parse
from harness.context import Job
from harness.pipeline.stages import check
from harness.record import RunFolder, read_mapping
from harness.record.identity import fingerprints, run_name
from harness.record.secrets import refuse_secrets
from harness.record.tracking import upload_is_due
from harness.record.variants import kept, tracking_id
from harness.system.looks import one_look

# What the sweep adds to what was typed for a job, in this order and behind it.
BOOKKEEPING = ("harness.run_id", "harness.position", "tracking.group")


class RunFailed(ValueError):
    """At least one run of the command failed; the message lists them with their logs."""


@dataclass(frozen=True)
class Plan:
    """All jobs of a command; `to_run` holds those with stages left."""

    requested: int
    jobs: list[Job] = field(default_factory=list)

    @property
    def to_run(self) -> list[Job]:
        return [job for job in self.jobs if job.pending]

    @property
    def is_done(self) -> bool:
        """The command asked for runs, and none is left to do."""
        control = self.jobs[0].config.harness if self.jobs else None
        return control is not None and not self.to_run and not control.dry_run and not control.explain

    def describe(self, whole: bool = False) -> str:
        """The headline and one line per run; of a long plan both ends, unless the `whole` is asked for."""
        distinct, left = len(self.jobs), len(self.to_run)
        jobs = "1 job" if self.requested == 1 else f"{self.requested} jobs"
        headline = f"{jobs}, {distinct} distinct, {distinct - left} done, {left} to run"
        alike: dict[str, list[Job]] = {}
        for job in self.jobs:
            alike.setdefault(job.run_id, []).append(job)
        lines = [f"  {job.run_id}  {', '.join(job.pending) or 'done'}{_said(job, alike)}" for job in self.jobs]
        if len(lines) > 40 and not whole:
            lines = [*lines[:20], f"  ... {len(lines) - 40} more ...", *lines[-20:]]
        return "\n".join([headline, *lines])

    def announce(self) -> bool:
        """Print what will happen, with harness.explain=true in full; whether to go on and run it."""
        if not self.jobs:
            return False
        control = self.jobs[0].config.harness
        print(self.describe(whole=control.dry_run), file=sys.stderr)
        if control.explain:
            from harness.pipeline.explain import explain

            for job in self.jobs:
                print(explain(job.config, job.run_id))
        return bool(self.to_run) and not control.dry_run and not control.explain


def _said(job: Job, alike: Mapping[str, Sequence[Job]]) -> str:
    """What was typed for a job alone, if others of its run differ in it."""
    others = alike[job.run_id]
    own = [word for word in job.overrides if any(word not in other.overrides for other in others)]
    return f"  ({' '.join(own)})" if own else ""


def config_from(composed: Any, overrides: Sequence[str] = ()) -> Config:
    """Checked settings out of what Hydra composed; with run_id=RUN those of that run (`harness.pipeline.rerun`)."""
    settings = composed if isinstance(composed, dict) else _settings_in(composed)
    if settings.get("run_id") is not None:
        from harness.pipeline.rerun import stored_config

        return _with_overrides(stored_config(settings, overrides), overrides)
    return _with_overrides(parse({key: value for key, value in settings.items() if key != "run_id"}), overrides)


def _settings_in(composed: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    ours = composed  # of a sweep; copying it takes as long as everything else
    if "hydra" in composed:
        ours = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The settings with what was typed for them, so that it travels to wherever the run is done."""
    is_planned = any(line.startswith(f"{BOOKKEEPING[0]}=") for line in overrides)
    typed = list(overrides[: -len(BOOKKEEPING)] if is_planned else overrides)
    return config.model_copy(update={"harness": config.harness.model_copy(update={"overrides": typed})})


def job_of(config: Config, overrides: Sequence[str] = ()) -> Job:
    """The run of these settings: its identity, its folder, and what is left of it to do."""
    prints = fingerprints(config)
    name = run_name(config, prints["generate"])
    job = Job(config, name, RunFolder(Path(config.output_dir).expanduser() / name), prints, overrides=overrides)
    return replace(job, pending=pending_stages(job))


def pending_stages(job: Job) -> list[str]:
    """The requested stages that are not complete with these settings, and "record" if the end or W&B's copy is missing.

    Results that the run keeps of these settings beside those of others (`harness.record.variants`) count as well.
    A diverged run has nothing left to do: the same settings would diverge again.
    """
    config, folder = job.config, job.folder
    if kept(folder, job.fingerprints, config.stages):
        return []
    pending: list[str] = [stage for stage in config.stages if not folder.is_complete(stage, job.fingerprints[stage])]
    if "train" not in pending and folder.stages().get("train", {}).get("status") == "diverged":
        pending = []
    lost = not (folder / "model").is_dir() and (folder / "stages.json").exists()
    if lost and "train" in config.stages and "train" not in pending and {"generate", "probe"} & set(pending):
        pending = ["train", *pending]  # their model is gone
    recorded = (
        _is_recorded(folder)
        and not pending
        and not upload_is_due(config, folder, tracking_id(folder, job.fingerprints))
    )
    return pending if recorded else [*pending, "record"]


def _is_recorded(folder: RunFolder) -> bool:
    """Whether the run was closed and its summary can be read."""
    try:
        return (folder / "done").exists() and "final" in read_mapping(folder / "summary.json")
    except (OSError, ValueError):
        return False


def make_plan(configs: Iterable[Config], overrides: Sequence[Sequence[str]] | None = None) -> Plan:
    """Check every job's files, drop duplicates, find what is done. The sweep's offline=true holds from here on.

    Raises:
        ValueError: the first problem found in any job, naming file, row, key and value.
    """
    with one_look():
        return _plan(configs, overrides)


def _plan(configs: Iterable[Config], overrides: Sequence[Sequence[str]] | None) -> Plan:
    from harness.data import go_offline

    jobs: dict[tuple[str, ...], Job] = {}
    requested, writable = 0, set[str]()
    for number, config in enumerate(configs):
        requested += 1
        if config.output_dir not in writable:
            _check_writable(config.output_dir)
            writable.add(config.output_dir)
        refuse_secrets(config.model_dump(mode="json"))
        if config.offline:
            go_offline()
        if not config.harness.explain:  # that works without data and weights at hand
            check(config)
        job = job_of(config, overrides[number] if overrides else ())
        # One run may be judged by several judges, say: each is a job, after the first there is no more to train.
        key = (job.run_id, *(f"{stage} {job.fingerprints[stage]}" for stage in config.stages))
        jobs.setdefault(key, job)
    return Plan(requested, list(jobs.values()))


def _check_writable(output_dir: str) -> None:
    """Without writing: a dry run leaves nothing behind."""
    wanted = Path(output_dir).expanduser().absolute()
    nearest = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir={output_dir}: cannot be written ({nearest} is no writable folder)")
