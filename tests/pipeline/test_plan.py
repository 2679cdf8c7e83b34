"""What a plan says of itself."""

from __future__ import annotations

from collections.abc import Callable

from harness.config import Config
from harness.pipeline.plan import Job, Plan


def test_a_long_plan_is_shortened_unless_the_whole_is_asked_for(compose: Callable[..., Config]) -> None:
    config = compose()
    plan = Plan(50, [Job(config, f"run{number:02}", ["train"]) for number in range(45)])
    short, whole = plan.describe().splitlines(), plan.describe(whole=True).splitlines()
    assert short[0] == whole[0] == "50 jobs, 45 distinct, 0 done, 45 to run"
    assert len(short) == 1 + 20 + 1 + 20
    assert short[21] == "  ... 5 more ..."
    assert [line.split()[0] for line in whole[1:]] == [f"run{number:02}" for number in range(45)]
