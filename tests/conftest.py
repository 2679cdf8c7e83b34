"""Shared helpers: a composed default config, and where the data beside the checkout lie."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# No test reaches a model hub or a W&B server by accident.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

# A shell starts what it puts in the background (nohup ... &) with Ctrl-C ignored, and every command started from there
# inherits that: the tests that send it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; skips where the checkout stands alone."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) are not on this machine")
    return folder


@pytest.fixture
def compose(tmp_path: Path) -> Callable:
    """compose("noise=symnoise", ...) -> checked Config whose runs go to a temporary folder."""
    from harness.config import Config
    from harness.config.compose import compose as composed
    from harness.pipeline.plan import config_from

    def build(*overrides: str) -> Config:
        given = ["tracking=disabled", *overrides]
        return config_from(composed([f"output_dir={tmp_path / 'runs'}", *given]), given)

    return build


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """finished(config): the summary of a run that is done once in this session and copied (support.runs.Finished)."""
    from support.runs import Finished

    return Finished(tmp_path_factory.mktemp("finished"))
