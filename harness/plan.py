"""What a command will do, known before it starts: every job checked, duplicates dropped, finished runs skipped."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import Config, GenerateConfig, parse
from harness.identity import run_id, stage_fingerprint
from harness.record import RunFolder
from harness.secrets import refuse_secrets


class RunFailed(ValueError):
    """At least one run of the command failed; the message lists them with their logs."""


@dataclass(frozen=True)
class Job:
    """One distinct run: its settings, its folder, and what is left to do."""

    config: Config
    run_id: str
    pending: list[str]
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """All jobs of a command; `to_run` holds those with stages left."""

    requested: int
    jobs: list[Job] = field(default_factory=list)

    @property
    def to_run(self) -> list[Job]:
        return [job for job in self.jobs if job.pending]

    def describe(self, whole: bool = False) -> str:
        """The headline and one line per run; of a long plan both ends, unless the `whole` is asked for."""
        distinct, left = len(self.jobs), len(self.to_run)
        headline = f"{self.requested} jobs, {distinct} distinct, {distinct - left} done, {left} to run"
        lines = [f"  {job.run_id}  {', '.join(job.pending) or 'done'}" for job in self.jobs]
        if len(lines) > 40 and not whole:
            lines = [*lines[:20], f"  ... {len(lines) - 40} more ...", *lines[-20:]]
        return "\n".join([headline, *lines])


def config_from(composed: Any) -> Config:
    """Checked settings out of what Hydra composed."""
    from omegaconf import OmegaConf

    ours = composed  # of a sweep; copying it takes as long as everything else
    if "hydra" in composed:
        ours = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return parse({str(key): value for key, value in plain.items()})


def folder_of(config: Config) -> RunFolder:
    """Where the run lives."""
    return RunFolder(Path(config.output_dir).expanduser() / run_id(config))


def pending_stages(config: Config, folder: RunFolder) -> list[str]:
    """The requested stages that are not complete with these settings, and "record" if the end is missing.

    A diverged run has nothing left to do: the same settings would diverge again.
    """
    pending: list[str] = [
        stage for stage in config.stages if not folder.is_complete(stage, stage_fingerprint(config, stage))
    ]
    if "train" not in pending and folder.stages().get("train", {}).get("status") == "diverged":
        pending = []
    recorded = (folder / "done").exists() and not pending
    return pending if recorded else [*pending, "record"]


def check_backend(config: GenerateConfig) -> None:
    """Whether the backend is there, without importing it.

    Raises:
        ValueError: it is not installed.
    """
    if config.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "generate.backend=vllm: the package vllm is not installed "
            "(pip install 'noise-harness[vllm]' on a machine with a GPU); backend=auto needs nothing"
        )


def make_plan(configs: Iterable[Config], overrides: Sequence[Sequence[str]] | None = None) -> Plan:
    """Check every job's files, drop duplicates, find what is done.

    Raises:
        ValueError: the first problem found in any job, naming file, row, key and value.
    """
    from harness.data import check_inputs
    from harness.judge.registry import check_judge
    from harness.probe.tasks import check_benchmarks

    jobs: dict[str, Job] = {}
    requested, writable = 0, set[str]()
    for number, config in enumerate(configs):
        requested += 1
        if config.output_dir not in writable:
            _check_writable(config.output_dir)
            writable.add(config.output_dir)
        refuse_secrets(config.model_dump(mode="json"))
        check_inputs(config)
        if "generate" in config.stages:
            check_backend(config.generate)
        if "judge" in config.stages:
            check_judge(config.judge)
        if "probe" in config.stages and config.probe.benchmarks.tasks:
            check_benchmarks(config.probe.benchmarks)
        identity = run_id(config)
        if identity not in jobs:
            pending = pending_stages(config, folder_of(config))
            jobs[identity] = Job(config, identity, pending, overrides[number] if overrides else ())
    return Plan(requested, list(jobs.values()))


def _check_writable(output_dir: str) -> None:
    """Without writing: a dry run leaves nothing behind."""
    wanted = Path(output_dir).expanduser().absolute()
    nearest = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir={output_dir}: cannot be written ({nearest} is no writable folder)")
