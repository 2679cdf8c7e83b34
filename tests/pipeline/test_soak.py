"""A small soak: a sweep that is killed at random moments ends complete, each run once, with the results of peace."""

from __future__ import annotations

import pytest

from benchmarks.soak import check, compare, soak


@pytest.mark.slow
def test_twenty_runs_survive_random_kills(tmp_path):
    attempts = soak(tmp_path / "runs", runs=20, seed=1, start=8.0, longest=2.0, minutes=5.0)
    assert attempts[-1].how == "end"
    assert len(attempts) > 3
    check(tmp_path / "runs", 20)
    compare(tmp_path / "runs", tmp_path / "peaceful", [0, 19])
