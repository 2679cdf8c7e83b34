"""A run of some settings, as the plan sees it."""

from __future__ import annotations

from harness.config import Config
from harness.pipeline.plan import job_of
from harness.record import RunFolder


def folder_of(config: Config) -> RunFolder:
    """Where the run lives."""
    return job_of(config).folder


def pending_of(config: Config) -> list[str]:
    """What is left of the run to do."""
    return list(job_of(config).pending)
