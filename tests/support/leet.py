"""Offline logs as W&B's own reader sees them: `wandb leet inspect`, which shares no code with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def inspected(log: Path, home: Path, *options: str) -> str:
    """What the command prints, as JSON; its settings go below `home`."""
    places = {f"WANDB_{name}_DIR": str(home / name.lower()) for name in ("DATA", "CACHE", "CONFIG")}
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(log)]
    given = {**os.environ, **places, "HOME": str(home), "WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=given, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(log: Path, home: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of a log by their type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in inspected(log, home).splitlines():
        record = json.loads(line)
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def summary(log: Path, home: Path) -> dict[str, Any]:
    """State, config and summary at the end of a log."""
    found: dict[str, Any] = json.loads(inspected(log, home, "--summary"))
    return found
