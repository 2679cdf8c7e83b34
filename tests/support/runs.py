"""A run of some settings, as the plan sees it, and finished runs that several tests start from."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.pipeline.plan import job_of
from harness.pipeline.runner import execute
from harness.record import RunFolder


def folder_of(config: Config) -> RunFolder:
    """Where the run lives."""
    return job_of(config).folder


def pending_of(config: Config) -> list[str]:
    """What is left of the run to do."""
    return list(job_of(config).pending)


class Finished:
    """finished(config, ...): the runs are done, in this order, and their summaries come back.

    The same settings are run once in a session and copied for every other test, which may damage its copy. For tests
    that need a finished run and look at nothing of how it came about.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._summaries: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, *configs: Config) -> list[dict[str, Any]]:
        settings = [config.model_dump(mode="json", exclude={"output_dir"}) for config in configs]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        if key not in self._summaries:
            here = {"output_dir": str(self._root / key)}
            self._summaries[key] = [execute(config.model_copy(update=here)) for config in configs]
        shutil.copytree(self._root / key, configs[0].output_dir, dirs_exist_ok=True)
        return copy.deepcopy(self._summaries[key])
