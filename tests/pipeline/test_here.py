"""What a machine is asked before the first run starts on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import harness

HUGE = ("model=tiny", "model.architecture.layers=99999999999", "noise=none")


@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_weights_beyond_the_memory_are_refused_before_any_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    asked = harness(*HUGE, *words, cwd=tmp_path)
    assert asked.returncode == 2
    # A layer of width 128: 4 x 128 x 128 + 3 x 128 x 352 weights of 4 bytes.
    assert asked.stderr.splitlines()[-1].startswith("error: model=tiny: the weights alone take 80,281,600 GB, and this")
    assert not list(tmp_path.glob("runs/*/*"))
