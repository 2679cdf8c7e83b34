"""What W&B is told at the start of each run, and what that costs from the second run of a process on."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch
from support.run_folders import config_of, write_run
from support.wandb_logs import log_run


def test_runs_of_a_process_share_one_list_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (write_run(tmp_path, config_of(seed=seed)) for seed in (0, 1))
    log_run(first, tmp_path)
    read = importlib.metadata.distributions
    asked: list[object] = []
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **kept: asked.append(kept) or read(**kept))
    log_run(second, tmp_path)
    assert not asked
    lists = [path.read_text() for path in sorted((tmp_path / "wandb").glob("offline-run-*/files/requirements.txt"))]
    assert len(lists) == 2
    assert lists[0] == lists[1]
    assert f"torch=={torch.__version__}" in lists[0].splitlines()
