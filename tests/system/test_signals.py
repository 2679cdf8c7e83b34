"""A signal ends the process in order even where a library swallows what it raised."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from support.commands import SMALL
from support.runs import pending_of

from harness.pipeline import stages
from harness.pipeline.runner import execute
from harness.system.signals import stoppable


def swallowed(how: signal.Signals) -> None:
    """What some libraries do while they are imported."""
    try:
        os.kill(os.getpid(), how)
        time.sleep(0.01)
    except:  # noqa: E722
        pass


@pytest.mark.parametrize(
    ("how", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)], ids=["terminate", "ctrl-c"]
)
def test_a_swallowed_signal_leaves_at_the_end_of_the_block(how, expected):
    before = signal.getsignal(how)
    after: list[Any] = []
    with pytest.raises(expected), stoppable():  # noqa: PT012
        swallowed(how)
        after.append("went on")
    assert after
    assert signal.getsignal(how) is before


def test_a_stage_in_which_a_signal_was_swallowed_does_not_count(compose, monkeypatch):
    config = compose(*SMALL, "train.max_steps=2")
    original = stages.importlib.import_module

    def importing(name: str, *package: Any, **named: Any) -> Any:
        if name == "harness.generate.stage":
            swallowed(signal.SIGTERM)
        return original(name, *package, **named)

    with monkeypatch.context() as patch:
        patch.setattr(stages.importlib, "import_module", importing)
        with pytest.raises(SystemExit):
            execute(config)
    assert pending_of(config)[0] == "generate"
    assert execute(config)["status"] == "finished"
