"""Every stage shows its two faces, and a run is identified once, in the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.commands import SMALL

from harness.config import STAGES, Config
from harness.judge import stage as judge_stage
from harness.pipeline import torchrun
from harness.pipeline.plan import job_of, make_plan
from harness.pipeline.runner import run_job
from harness.pipeline.stages import checks_of, work_of
from harness.train import stage as train_stage

Compose = Callable[..., Config]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_two_faces_and_a_fingerprint(stage: str, compose: Compose) -> None:
    config = compose()
    assert callable(checks_of(stage).check)
    assert checks_of(stage).prepare([]) == []
    assert callable(work_of(stage, config).run)
    assert len(job_of(config).fingerprints[stage]) == 64


def test_training_on_several_processes_is_started_by_torchrun(compose: Compose) -> None:
    config = compose("train.devices=2")
    work = work_of("train", config)
    assert isinstance(work, torchrun.Stage)
    assert (work.name, work.devices) == ("train", 2)
    assert work_of("train", compose()) is train_stage
    assert work_of("judge", config) is judge_stage


def test_nothing_is_hashed_again_after_the_plan(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = make_plan([compose(*SMALL, "train.max_steps=1")]).jobs

    def hashed(*_: Any) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr("harness.record.identity.stage_fingerprint", hashed)
    assert run_job(job)["run_id"] == job.run_id
    done = job.folder.stages()
    assert {stage: done[stage]["fingerprint"] for stage in STAGES} == job.fingerprints
