"""What a machine is asked before the first run starts on it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.commands import harness

from harness.pipeline import here
from harness.pipeline.plan import job_of

MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
HUGE = ("model=tiny", "model.architecture.layers=99999999999", "noise=none")


@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_weights_beyond_the_memory_are_refused_before_any_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    asked = harness(*HUGE, *words, cwd=tmp_path)
    assert asked.returncode == 2
    # A layer of width 128: 4 x 128 x 128 + 3 x 128 x 352 weights of 4 bytes.
    assert asked.stderr.splitlines()[-1].startswith("error: model=tiny: the weights alone take 80,281,600 GB, and this")
    assert not list(tmp_path.glob("runs/*/*"))


def test_weights_of_32_bits_that_are_read_as_16_take_half(tmp_path: Path, compose: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(here, "has_gpu", lambda: False)
    monkeypatch.setattr(here, "weight_bytes", lambda _model: 3 * MEMORY // 2)
    for dtype, refused in (("float32", True), ("bfloat16", False)):
        config = compose("model=tiny", f"model.dtype={dtype}", "noise=none", f"output_dir={tmp_path}")
        with pytest.raises(ValueError, match="the weights alone take") if refused else nullcontext():
            assert here.check_this_machine([job_of(config)]) == []
