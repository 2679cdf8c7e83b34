"""What a sweep is called: the group of its runs in W&B, and in `python -m analysis --group`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import date

import yaml

from harness.context import Job
from harness.record import RunFolder

_GROUP = re.compile(r"^  group: .*(?:\n {4}.*)*", re.MULTILINE)  # a long text goes on below, further in
# Names or numbers of a list; of a longer one both ends.
_MOST = 8


def sweep_group(jobs: Sequence[Job]) -> str:
    """ "symnoise,neftune x alpha 1,5,10 - 2026-11-28 a1b2": noises, alphas, day of the start, hash of the run_ids.

    A sweep that goes on, by the same command on another day, keeps the name that its runs have.
    """
    digest = hashlib.sha256(" ".join(sorted({job.run_id for job in jobs})).encode()).hexdigest()[:4]
    known = (_noted(job.folder) for job in jobs)
    earlier = next((group for group in known if group and group.endswith(f" {digest}")), None)
    return earlier or f"{_what(jobs)} - {date.today().isoformat()} {digest}"


def _what(jobs: Sequence[Job]) -> str:
    noises = _listed([job.config.noise.name for job in jobs])
    alphas = _listed([f"{job.config.alpha:g}" for job in jobs if job.config.alpha])
    return f"{noises} x alpha {alphas}" if alphas else noises


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    shown = distinct if len(distinct) <= _MOST else [*distinct[: _MOST // 2], "...", *distinct[-_MOST // 2 + 1 :]]
    return ",".join(shown)


def _noted(folder: RunFolder) -> str | None:
    """The group in a run's settings, read without the rest of them: a sweep may have hundreds of runs."""
    path = folder / "config.yaml"
    found = _GROUP.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    group = yaml.safe_load(found[0]).get("group") if found else None
    return group if isinstance(group, str) else None
