"""What a plan says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.config import Config
from harness.context import Job
from harness.pipeline.plan import Plan
from harness.record import RunFolder


def test_a_long_plan_is_shortened_unless_the_whole_is_asked_for(compose: Callable[..., Config], tmp_path: Path) -> None:
    config = compose()
    plan = Plan(50, [Job(config, f"run{number:02}", RunFolder(tmp_path), {}, ["train"]) for number in range(45)])
    short, whole = plan.describe().splitlines(), plan.describe(whole=True).splitlines()
    assert short[0] == whole[0] == "50 jobs, 45 distinct, 0 done, 45 to run"
    assert len(short) == 1 + 20 + 1 + 20
    assert short[21] == "  ... 5 more ..."
    assert [line.split()[0] for line in whole[1:]] == [f"run{number:02}" for number in range(45)]
